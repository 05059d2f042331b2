//! The site's pages: each a pure function from what a command returned to HTML.
//!
//! Knows: the views of `commands`, the islands, words. A page is whole without scripting.
//! Never: asks a database, reads a clock (the time is given), checks a permission.
//! Start reading at `frame::Page`, then a page such as `deploy::page`.

mod account;
mod activity;
mod app;
mod apps;
mod billing;
mod chart;
mod config;
mod cost;
mod day_chart;
mod deploy;
mod deploys;
mod disk;
mod error;
mod form;
mod frame;
mod graphs;
mod head;
mod landing;
mod limits;
mod live;
mod log;
mod logs;
mod money;
mod new_app;
mod operator;
mod pen;
mod price;
mod region;
mod reset;
mod servers;
mod sign;
mod state;
mod steps;
mod table;
mod tokens;
mod traffic;
mod units;
mod usage;
mod verbs;
mod when;
mod why;

pub use self::account::{AccountPage, KeyForm, PasswordForm, account, delete_user};
pub use self::activity::{ActivityPage, activity, capital};
pub use self::app::{AppPage, app};
pub use self::apps::{AppsAsked, AppsPage, apps, of_apps};
pub use self::billing::billing;
pub use self::config::{ConfigForm, config, config_notice};
pub use self::deploy::{DeployPage, Printed, deploy, moves, of_deploy};
pub use self::deploys::{DeploysPage, deploys};
pub use self::error::{Problem, error};
pub use self::form::Typed;
pub use self::frame::{Page, Site, spend};
pub use self::head::of_head;
pub use self::landing::landing;
pub use self::live::{all_deploys, of_app};
pub use self::log::{plain, rows};
pub use self::logs::{LogsForm, LogsPage, logs};
pub use self::new_app::{NewApp, new_app};
pub use self::operator::{CustomerForm, CustomersPage, DecisionsPage, customer, customers, decisions, letters};
pub use self::price::{PriceForm, prices};
pub use self::region::Region;
pub use self::reset::{confirm, reset_ask, reset_set};
pub use self::servers::servers;
pub use self::sign::{Welcome, link, sign_in, sign_up};
pub use self::tokens::TokenForm;
pub use self::usage::{part, usage, usage_region};
pub use self::verbs::{Scaled, delete, memory_field};
pub use self::why::why;
