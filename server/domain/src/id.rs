//! Ids are bigint identities inside Berth. What a person or a stranger sees are names.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    )* };
}

ids! {
    /// Who signs in.
    UserId,
    /// Who owns apps and pays: a person or a team.
    CustomerId,
    /// What is deployed. Never given twice: an app's UIDs come from it.
    AppId,
    /// A numbered try to change what an app runs. (Its number within the app is apart.)
    DeployId,
    /// One life of an address: an instance is never used again for another process, release or
    /// server, so it is the *generation* that routes, pools and meters are keyed by.
    InstanceId,
    /// A machine of the fleet.
    ServerId,
    /// A user's SSH key.
    KeyId,
    /// A token of the JSON API.
    TokenId,
    /// A letter.
    MailId,
    /// One version of the price plan of a currency.
    PricePlanId,
}
