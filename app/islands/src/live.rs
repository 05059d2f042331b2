//! What the server says of a page's living parts: sent with the page, and again in the event
//! stream whenever it changes. Words are finished; times are milliseconds.

use serde::{Deserialize, Serialize};

/// A state: its component class and its word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `running`, `deploying`, `warned`, `failed`, `stopped`.
    pub kind: String,
    pub word: String,
}

/// All that lives on a page. The page of one deploy has no `app`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub app: Option<App>,
    /// The deploy of the page, or the app's open one.
    pub deploy: Option<Deploy>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub state: State,
    /// "v3 serves", or what stands in its place.
    pub serving: String,
    pub vitals: Vec<Vital>,
    pub notice: Option<Notice>,
    pub rail: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vital {
    pub name: String,
    pub value: String,
    pub unit: String,
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `""`, `warn` or `bad`.
    pub kind: String,
    pub title: String,
    pub text: String,
    pub href: String,
    pub link: String,
}

/// One deploy on the rail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub mark: Mark,
    pub number: i64,
    pub href: String,
    /// "serving", "never served".
    pub word: String,
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Done,
    Now,
    Busy,
    Broke,
    Todo,
}

impl Mark {
    /// The second class of a list's item.
    pub fn class(self) -> &'static str {
        match self {
            Self::Done => "",
            Self::Now => "now",
            Self::Busy => "busy",
            Self::Broke => "broke",
            Self::Todo => "todo",
        }
    }

    /// What a reader who does not see the mark is told.
    pub fn spoken(self) -> &'static str {
        match self {
            Self::Done | Self::Now => "",
            Self::Busy => " (running)",
            Self::Broke => " (failed)",
            Self::Todo => " (not yet)",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    pub number: i64,
    pub href: String,
    pub state: State,
    pub steps: Vec<Step>,
    /// From the first step's start until now, or until its end.
    pub took_ms: u64,
    pub open: bool,
    pub failure: Option<Failure>,
    /// What it means for visitors, and what comes next.
    pub meaning: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub mark: Mark,
    /// After the first step's start.
    pub from_ms: u64,
    pub took_ms: Option<u64>,
    pub note: String,
}

/// Why a deploy failed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
}

/// A line of a log. `at` is in microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: i64,
    pub source: String,
    pub text: String,
}
