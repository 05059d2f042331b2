//! A user's SSH keys.

use domain::KeyId;
use ssh_key::{HashAlg, PublicKey};

use crate::{Actor, CommandError, Commands, KeyView, timely};

const RSA_BITS_MIN: usize = 2048;

impl Commands {
    pub async fn keys(&self, actor: &Actor) -> Result<Vec<KeyView>, CommandError> {
        timely(async { Ok(store::key::list(self.db.pool(), actor.user).await?.into_iter().map(view).collect()) }).await
    }

    /// `public` is the line of a `.pub` file; without a name, its comment is one.
    pub async fn key_add(&self, actor: &Actor, name: &str, public: &str) -> Result<KeyView, CommandError> {
        timely(async {
            let key = parse(public)?;
            let name = match name.trim() {
                "" if key.comment().trim().is_empty() => "key".to_owned(),
                "" => key.comment().trim().chars().filter(|c| !c.is_control()).take(100).collect(),
                given => given.to_owned(),
            };
            if name.chars().count() > 100 || name.chars().any(char::is_control) {
                return Err(CommandError::invalid("name", "Use at most 100 characters on one line."));
            }
            let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
            let public = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(CommandError::internal)?;
            let mut tx = self.db.begin().await?;
            self.confirmed(&mut tx, actor).await?;
            let kind = key.algorithm().as_str().to_owned();
            let added = store::key::add(&mut tx, actor.user, &name, &kind, &fingerprint, &public).await?;
            self.record(&mut tx, actor, "key add", &fingerprint, None, Some(serde_json::json!({ "name": name })))
                .await?;
            tx.commit().await?;
            Ok(view(added))
        })
        .await
    }

    pub async fn key_remove(&self, actor: &Actor, key: KeyId) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let Some(fingerprint) = store::key::remove(&mut tx, actor.user, key).await? else {
                return Err(CommandError::NotFound { what: "key" });
            };
            self.record(&mut tx, actor, "key remove", &fingerprint, None, None).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

fn view(key: store::key::Key) -> KeyView {
    let store::key::Key { id, name, kind, fingerprint, created, last_used } = key;
    KeyView { id, name, kind, fingerprint, created, last_used }
}

fn parse(given: &str) -> Result<PublicKey, CommandError> {
    let refuse = |message: &str, hint: &str| CommandError::Invalid {
        field: "public",
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    };
    let given = given.trim();
    if given.is_empty() {
        return Err(refuse("Paste a public key.", "Print it by: cat ~/.ssh/id_ed25519.pub"));
    }
    if given.contains("PRIVATE KEY") {
        return Err(refuse(
            "That is the private half of a key. It was not kept, but it should not leave your computer: make a new key.",
            "Paste the line of the file that ends in .pub",
        ));
    }
    let not_a_key = || {
        refuse(
            "That is not an SSH public key.",
            "It is one line that begins with ssh-ed25519, ecdsa-sha2-nistp256 or ssh-rsa: cat ~/.ssh/id_ed25519.pub",
        )
    };
    if given.lines().count() > 1 || given.len() > 16 << 10 {
        return Err(not_a_key());
    }
    if given.starts_with("ssh-dss") {
        return Err(refuse("DSA keys are too weak.", "Make a new one by: ssh-keygen -t ed25519"));
    }
    let key = PublicKey::from_openssh(given).map_err(|_| not_a_key())?;
    match key.key_data() {
        ssh_key::public::KeyData::Ed25519(_)
        | ssh_key::public::KeyData::Ecdsa(_)
        | ssh_key::public::KeyData::SkEd25519(_)
        | ssh_key::public::KeyData::SkEcdsaSha2NistP256(_) => Ok(key),
        ssh_key::public::KeyData::Rsa(rsa) => {
            let modulus = rsa.n.as_positive_bytes().unwrap_or_default();
            let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
            if bits < RSA_BITS_MIN {
                return Err(refuse(
                    &format!("This RSA key has {bits} bits; at least {RSA_BITS_MIN} are needed."),
                    "Make a new one by: ssh-keygen -t ed25519",
                ));
            }
            Ok(key)
        }
        _ => Err(refuse("Keys of this kind are not accepted.", "Make a new one by: ssh-keygen -t ed25519")),
    }
}
