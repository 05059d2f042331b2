//! The command line. Each flag of `berth up` is also a variable `BERTH_<FLAG>`; with `DATABASE_URL` and
//! `REDIS_URL` (`outside`) these are all that Berth reads, and the supervisor alone reads them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use domain::{Email, Hostname, Month};
use ipnet::Ipv4Net;

use crate::slice::DEFAULT_DATA;

#[derive(Parser)]
#[command(name = "berth", version, about = "A platform for apps on your own servers: git push, a URL, a bill.")]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Start Berth on this server, as root; SIGTERM or Ctrl-C stops it, SIGHUP is `berth upgrade`.
    ///
    /// The variables DATABASE_URL and REDIS_URL name a PostgreSQL and a Redis to be used instead of its own.
    Up(Box<Up>),
    /// Look at what Berth needs of this server, with the settings of `up`: a line each, with its fix.
    Doctor {
        #[command(flatten)]
        settings: Box<Up>,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Start roles of a running Berth again, each beside its predecessor: no connection is refused.
    Restart {
        /// balancer, web, receiver, runner, control, logs [default: all].
        roles: Vec<String>,
        #[command(flatten)]
        at: At,
    },
    /// Go on with the program that is on disk now: the supervisor first, then each role as in `restart`.
    Upgrade {
        /// The new program [default: the path that `berth up` was started from].
        #[arg(long)]
        binary: Option<PathBuf>,
        #[command(flatten)]
        at: At,
    },
    /// Users, made by root on the server itself.
    User(User),
    /// What customers owe, and whether all of it follows from what was counted.
    Ledger(Ledger),
    /// After the database came back older than what runs.
    Restore(Restore),
    /// What a static app runs in its sandbox.
    #[command(hide = true)]
    Files {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        port: u16,
    },
    /// Looks at given engines for `berth doctor`, without rights.
    #[command(hide = true)]
    Look,
    /// One process of Berth; started by `berth up` only.
    #[command(hide = true)]
    Role { name: String },
}

#[derive(Args, Clone, Debug)]
pub struct Up {
    /// Where everything that must survive lies.
    #[arg(long, env = "BERTH_DATA", default_value = DEFAULT_DATA)]
    pub data: PathBuf,

    /// Where visitors come: site and apps. Port 0 takes any free one.
    #[arg(long, env = "BERTH_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,

    /// Where git comes. Port 0 takes any free one.
    #[arg(long, env = "BERTH_SSH", default_value = "0.0.0.0:2222")]
    pub ssh: SocketAddr,

    /// The site's own host name.
    #[arg(long, env = "BERTH_SITE_HOST", default_value = "localhost")]
    pub site_host: Hostname,

    /// An app answers at APP.<this>. It must not share a registrable domain with the site.
    #[arg(long, env = "BERTH_APPS_DOMAIN", default_value = "localhost")]
    pub apps_domain: Hostname,

    /// Who may make an account on the site [default: open when --http is a loopback address, else approval].
    #[arg(long, env = "BERTH_SIGNUP", alias = "sign-up")]
    pub signup: Option<SignUp>,

    /// The mail server, smtp[s]://user:password@host:port. smtp:// goes over to TLS before anything is said,
    /// except to this server itself or with ?tls=none [default: each letter becomes a file in mail/ of the
    /// data directory].
    #[arg(long, env = "BERTH_SMTP", hide_env_values = true)]
    pub smtp: Option<SecretText>,

    /// Who letters are from [default: Berth <berth@SITE_HOST>].
    #[arg(long, env = "BERTH_MAIL_FROM")]
    pub mail_from: Option<String>,

    /// The UIDs that this installation may use, FIRST-LAST [default: 65,536 of its slice's own].
    #[arg(long, env = "BERTH_UID_RANGE")]
    pub uid_range: Option<crate::slice::UidRange>,

    /// The addresses of instances, a /16 [default: the first of 10.64.0.0/10 clear of the server's routes].
    #[arg(long, env = "BERTH_SUBNET")]
    pub subnet: Option<Ipv4Net>,

    /// Networks that builds may reach although they are private: package indexes, proxies, resolvers.
    #[arg(long, env = "BERTH_BUILD_NETWORKS", value_delimiter = ',')]
    pub build_networks: Vec<Ipv4Net>,

    /// The program `uv`, which installs Python packages in builds [default: the one in PATH].
    #[arg(long, env = "BERTH_UV")]
    pub uv: Option<PathBuf>,

    /// How many releases of each app are kept to roll back to, besides the one that serves. Images and sources of
    /// older ones are deleted.
    #[arg(long, env = "BERTH_KEEP_RELEASES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub keep_releases: u16,

    /// MiB that must stay free on the disk of --data. Below, pushes, builds and new instances are refused
    /// [default: 5 % and at least 1 GiB, of a small disk a quarter].
    #[arg(long, env = "BERTH_DISK_RESERVE_MIB")]
    pub disk_reserve_mib: Option<u32>,

    /// When Berth stops, the apps go on; the next `berth up` takes them up again.
    #[arg(long, env = "BERTH_KEEP_APPS")]
    pub keep_apps: bool,

    /// The descriptor of what a supervisor hands to its successor.
    #[arg(long, hide = true)]
    pub resume: Option<i32>,

    /// Only say whether that could be taken over.
    #[arg(long, hide = true, requires = "resume")]
    pub resume_check: bool,

    /// What is logged: `info`, `debug`, or as `tracing` filters are written.
    #[arg(long, env = "BERTH_LOG", default_value = "info")]
    pub log: String,
}

impl Up {
    /// In bytes.
    pub fn disk_reserve(&self) -> Option<u64> {
        self.disk_reserve_mib.map(|mib| u64::from(mib) << 20)
    }
}

/// A setting that is never printed.
pub type SecretText = domain::Secret<String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SignUp {
    Open,
    /// Who makes one may look around, and begins when the operator has approved.
    Approval,
    /// Users are made by `berth user create`.
    Closed,
}

#[derive(Args, Clone, Debug)]
pub struct Restore {
    #[command(subcommand)]
    pub verb: RestoreVerb,
}

#[derive(Subcommand, Clone, Debug)]
pub enum RestoreVerb {
    /// It counts from now on: what it does not know stops, and no number is given twice.
    Accept {
        #[command(flatten)]
        at: At,
    },
    /// The part of it that is the database owner's.
    #[command(hide = true)]
    AcceptRows {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args, Clone, Debug)]
pub struct Ledger {
    #[command(subcommand)]
    pub verb: LedgerVerb,
}

#[derive(Subcommand, Clone, Debug)]
pub enum LedgerVerb {
    /// Count everything again and compare: counters, readings, prices, postings. A line a check; exit code 1 where
    /// anything differs.
    Verify {
        /// 2026-11 [default: the month that is under way].
        #[arg(long)]
        month: Option<Month>,
        /// How many seconds readings may take to arrive.
        #[arg(long, default_value_t = 60)]
        wait: u64,
        /// For programs.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// The part of it that is the database owner's; counters come by standard input.
    #[command(hide = true)]
    VerifyRows {
        #[arg(long)]
        month: Option<Month>,
        #[arg(long)]
        wait: u64,
        #[command(flatten)]
        at: At,
    },
    /// What a customer owes so far, by meter and by app.
    Show {
        /// An id, a name, or the address of a member.
        customer: String,
        /// 2026-11 [default: the month that is under way].
        #[arg(long)]
        month: Option<Month>,
        /// For programs.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args, Clone, Debug)]
pub struct User {
    #[command(subcommand)]
    pub verb: UserVerb,
}

#[derive(Subcommand, Clone, Debug)]
pub enum UserVerb {
    /// Make a user, and print a one-time link to sign in.
    Create {
        email: Email,
        /// What the site calls them [default: the address before its @].
        #[arg(long)]
        name: Option<String>,
        /// They run this Berth.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        at: At,
    },
    /// Print a new one-time link to sign in.
    Link {
        email: Email,
        #[command(flatten)]
        at: At,
    },
    /// Let them begin, where sign-up is by approval.
    Approve {
        email: Email,
        #[command(flatten)]
        at: At,
    },
    /// Do not let them begin.
    Refuse {
        email: Email,
        #[command(flatten)]
        at: At,
    },
    /// Say that the address is theirs, as the link in a letter would.
    Confirm {
        email: Email,
        #[command(flatten)]
        at: At,
    },
}

impl UserVerb {
    pub fn at(&self) -> &At {
        match self {
            Self::Create { at, .. }
            | Self::Link { at, .. }
            | Self::Approve { at, .. }
            | Self::Refuse { at, .. }
            | Self::Confirm { at, .. } => at,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct At {
    /// The data directory of the running `berth up`.
    #[arg(long, env = "BERTH_DATA", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
}
