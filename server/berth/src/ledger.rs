//! `berth ledger`: by root on the server itself. Counters are read as root, the database as its owner, each in a process
//! of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use billing::{Check, Counter, Report};
use domain::Month;
use store::Db;

use crate::cli::{At, Ledger, LedgerVerb};
use crate::door;
use crate::user::as_owner;

type Boxed = Box<dyn Error + Send + Sync>;

/// Of one check.
const DIFFERENCES_SHOWN: usize = 20;

pub fn ledger(asked: &Ledger) -> Result<(), Boxed> {
    match &asked.verb {
        LedgerVerb::Verify { month, wait, json, at } => verify(*month, *wait, *json, at),
        LedgerVerb::VerifyRows { month, wait, at } => verify_rows(*month, *wait, at),
        LedgerVerb::Show { customer, month, json, at } => {
            let account = on_database(at, async |db| Ok(billing::show(&db, customer, *month).await?))?;
            match json {
                true => println!("{}", serde_json::to_string_pretty(&account)?),
                false => print!("{}", account.text()),
            }
            Ok(())
        }
    }
}

fn on_database<T>(at: &At, work: impl AsyncFnOnce(Db) -> Result<T, Boxed>) -> Result<T, Boxed> {
    let config = as_owner(&at.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let db = Db::open(&config.database_url, 2)?;
        let done = work(db.clone()).await;
        db.close().await;
        done
    })
}

/// Counters, then what the database has of them, then counters again: a reading lies between the two.
fn verify(month: Option<Month>, wait: u64, json: bool, at: &At) -> Result<(), Boxed> {
    let (data, slice) = door::running(&at.data)?;
    let before = counters(&data, slice)?;
    let mut rows = Command::new("/proc/self/exe");
    rows.args(["ledger", "verify-rows", "--wait", &wait.to_string(), "--data"]).arg(&data);
    if let Some(month) = month {
        rows.args(["--month", &month.to_string()]);
    }
    let mut child = rows.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(&before)?)?;
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        return Err("the ledger could not be read".into());
    }
    let mut report: Report = serde_json::from_slice(&done.stdout)?;
    report.checks.insert(1, of_counters(&report.read, &counters(&data, slice)?));
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => say(&report),
    }
    let differ: usize = report.checks.iter().map(|check| check.differences.len()).sum();
    if report.is_clean() { Ok(()) } else { Err(format!("the ledger is not clean: {differ} differences").into()) }
}

/// What was read earlier is no more than what is counted now.
fn of_counters(read: &[Counter], now: &[Counter]) -> Check {
    let mut check = Check::new("counters of what runs have what readings said");
    let now: BTreeMap<_, u64> = now.iter().map(|c| ((&c.life, c.app, c.meter), c.value)).collect();
    for Counter { life, app, meter, value } in read {
        // What has ended meanwhile has its last reading.
        let Some(counted) = now.get(&(life, *app, *meter)) else { continue };
        check.compared += 1;
        if counted < value {
            check.differences.push(format!("{meter} of {life}: readings {value}, the counter {counted}"));
        }
    }
    check
}

/// The kernel's of each living instance, and the balancers' own.
fn counters(data: &Path, slice: u32) -> io::Result<Vec<Counter>> {
    let told = runner::counters_of(slice)?.into_iter();
    let mut all: Vec<Counter> = told.map(|(life, meter, value)| Counter { life, app: None, meter, value }).collect();
    let counted = balancer::counters(&data.join("balancer"))?.into_iter();
    all.extend(counted.map(|(life, app, meter, value)| Counter { life, app: Some(app), meter, value }));
    Ok(all)
}

fn verify_rows(month: Option<Month>, wait: u64, at: &At) -> Result<(), Boxed> {
    let counters: Vec<Counter> = serde_json::from_reader(io::stdin().lock())?;
    let wait = Duration::from_secs(wait);
    let report = on_database(at, async |db| Ok(billing::verify(&db, &counters, month, wait).await?))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn say(report: &Report) {
    for Check { name, compared, in_flight, differences } in &report.checks {
        let on_its_way = if *in_flight > 0 { format!(", {in_flight} in flight") } else { String::new() };
        match differences.len() {
            0 => println!("ok       {name}: {compared} compared{on_its_way}"),
            differ => println!("DIFFERS  {name}: {differ} of {compared}{on_its_way}"),
        }
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            println!("           {difference}");
        }
        if differences.len() > DIFFERENCES_SHOWN {
            println!("           … and {} more", differences.len() - DIFFERENCES_SHOWN);
        }
    }
    println!("{}, posted up to {}; what was used since is computed", report.month, report.posted_until);
}
