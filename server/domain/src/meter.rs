//! What is metered. A meter is read, not ticked: a reading is the value of a counter that only
//! grows within a life, so readings merge by maximum, and order, loss and repetition do not matter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::words;
use crate::{AppId, NameError, Time};

words! {
    /// A cumulative count, and its unit.
    pub enum Meter {
        /// CPU time in microseconds, from the kernel's counter.
        Cpu => "cpu",
        /// Reserved memory × time awake, in KiB-seconds: derived from the instances' rows.
        Memory => "memory",
        /// Requests answered, from the balancer's.
        Requests => "requests",
        /// Bytes that left for the internet: by an instance's own connections, and in the balancer's answers.
        BytesOut => "bytes_out",
        /// What lies on disk for the app × time, in KiB-seconds: derived from the sizes that were measured.
        Storage => "storage",
        /// Time that builds took, in microseconds: derived from the deploys' steps.
        Builds => "builds",
    }
}

impl Meter {
    /// How many of what it counts a price is for: a CPU-hour, a GiB-hour, a million, a GiB, a minute.
    pub const fn unit(self) -> u64 {
        match self {
            Self::Cpu => 3_600_000_000,
            Self::Memory | Self::Storage => (1 << 20) * 3_600,
            Self::Requests => 1_000_000,
            Self::BytesOut => 1 << 30,
            Self::Builds => 60_000_000,
        }
    }

    /// A counter that a runner or a balancer reads; the others are derived from rows, and nobody else may tell them.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Cpu | Self::Requests | Self::BytesOut)
    }
}

/// One run of what a meter counts: `<boot id>/<instance>/<generation>` on a runner (the counters of an instance that is
/// started again after its server's end begin anew), the random id of the counters' file on a balancer; of what is derived, `instance/7`, `build/9` or `storage/3` (an app's). At most 80 characters of letters, digits, `-` and `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(try_from = "String", into = "String")]
pub struct Life(String);

impl Life {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Life {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let fits =
            (1..=80).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'/');
        if fits {
            Ok(Self(s.to_owned()))
        } else {
            Err(NameError::Unknown { what: "life", given: s.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for Life {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<Life> for String {
    fn from(life: Life) -> String {
        life.0
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of one meter of one app in one life, the highest read within `hour`.
/// Two readings with the same (life, app, meter, hour) are one: the greater value counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub life: Life,
    pub app: AppId,
    pub meter: Meter,
    /// The full hour (UTC) that `at` lies in.
    pub hour: Time,
    pub value: u64,
    pub at: Time,
}
