//! What a running Berth may not have beside its living instances: whatever the kernel holds of a slice belongs to
//! an instance that PostgreSQL says is alive. True whenever nothing is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::berth::Berth;
use crate::left::{groups, mounts};

/// A living instance, as PostgreSQL has it.
struct Living {
    address: String,
    image: String,
}

/// Fails with every part of the kernel's and the disk's that no living instance explains, and with every living
/// instance of which a part is missing.
pub fn no_orphans(berth: &Berth) -> Result<()> {
    let mut wrong = Vec::new();
    let living = living(berth, &mut wrong)?;
    let units: BTreeSet<String> = living.keys().cloned().collect();
    let mut same = |what: &str, has: BTreeSet<String>, should: &BTreeSet<String>| {
        wrong.extend(has.difference(should).map(|one| format!("{what} {one} belongs to nothing that lives")));
        wrong.extend(should.difference(&has).map(|one| format!("{what} {one} is missing")));
    };
    let run = PathBuf::from(format!("/run/berth/{}.d/runner", berth.slice));
    let mounts = mounts()?;

    for root in groups(&mounts) {
        let apps = root.join(format!("berth-{}/apps", berth.slice));
        if !apps.is_dir() {
            continue;
        }
        let mut has = folders(&apps);
        has.remove("shims");
        // The unified hierarchy of a server with v1 ones has them, too.
        same(&format!("the group {}", root.display()), has, &units);
    }
    same("the shim of", shims(berth)?, &units);
    same("the bundle", names(&run.join("units")), &units);
    let ids = units.iter().map(|unit| unit[1..].to_owned()).collect();
    same("what is kept of instance", names(&run.join("instances")), &ids);
    same("the mount below", mounted(&mounts, &run.join("units")), &units);
    let images = living.values().map(|one| one.image.clone()).collect();
    same("the mount of image", mounted(&mounts, &run.join("images")), &images);
    same("the loop device on image", loops(&berth.data.join("runner/images")), &images);

    let (links, addresses) = permitted(berth.slice)?;
    let wanted: BTreeSet<String> = living.values().map(|one| one.address.clone()).collect();
    same("the permission of address", addresses, &wanted);
    let prefix = format!("b{}x", berth.slice);
    let is_ours = |name: &String| name.starts_with(&prefix);
    same("the link", names(Path::new("/sys/class/net")).into_iter().filter(is_ours).collect(), &links);
    same("the build", names(&berth.data.join("runner/builds")), &BTreeSet::new());
    let is_half = |name: &String| name.ends_with(".new");
    same("the repository", names(&berth.data.join("repos")).into_iter().filter(is_half).collect(), &BTreeSet::new());
    same("the loop device on", loops(&berth.data.join("runner/caches")), &BTreeSet::new());
    if !wrong.is_empty() {
        bail!("of slice {}:\n  {}", berth.slice, wrong.join("\n  "));
    }
    Ok(())
}

/// By unit; and what the rows themselves say that may not be.
fn living(berth: &Berth, wrong: &mut Vec<String>) -> Result<BTreeMap<String, Living>> {
    let rows = berth.sql(
        "select 'i' || i.id, host(i.address), r.image from instance i
         join release r on r.app_id = i.app_id and r.number = i.release_number where i.ended is null",
    )?;
    let mut living = BTreeMap::new();
    for row in rows.lines() {
        let mut words = row.split('|').map(str::to_owned);
        let mut word = || words.next().context("a row with too little");
        let (unit, address, image) = (word()?, word()?, word()?);
        living.insert(unit, Living { address, image });
    }
    let never = [
        ("an address of two", "select host(address) from instance where ended is null group by 1 having count(*) > 1"),
        (
            "an open step of an ended deploy",
            "select d.app_id || ' v' || d.number || ' ' || s.step from deploy_step s join deploy d on d.id = s.deploy_id
             where s.ended is null and d.state in ('failed', 'canceled')",
        ),
        (
            "an instance of a deleted app",
            "select i.id::text from instance i join app a on a.id = i.app_id where a.state = 'deleted' and i.ended is null",
        ),
    ];
    for (what, query) in never {
        wrong.extend(berth.sql(query)?.lines().map(|row| format!("{what}: {row}")));
    }
    Ok(living)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn folders(folder: &Path) -> BTreeSet<String> {
    names(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

/// The first folder below `folder` of each mount there.
fn mounted(mounts: &str, folder: &Path) -> BTreeSet<String> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter_map(|point| Path::new(point).strip_prefix(folder).ok());
    below.filter_map(|path| Some(path.iter().next()?.to_string_lossy().into_owned())).collect()
}

/// The files of `folder` that loop devices are on.
fn loops(folder: &Path) -> BTreeSet<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files
        .filter_map(|file| {
            let path = Path::new(file.trim_end()).strip_prefix(folder).ok()?.to_owned();
            Some(path.to_string_lossy().into_owned())
        })
        .collect()
}

/// The units whose shims run.
fn shims(berth: &Berth) -> Result<BTreeSet<String>> {
    let mut units = BTreeSet::new();
    for pid in berth.shims()? {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        units.extend(line.split('\0').find_map(|word| word.strip_prefix("id=")).map(str::to_owned));
    }
    Ok(units)
}

/// Links and the addresses that may be used on them, by nftables.
fn permitted(slice: u32) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let table = format!("berth-{slice}");
    let mut nft = Command::new("nft");
    let output = nft.args(["list", "set", "inet", &table, "inst"]).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let elements = text.split_once("elements = {").map_or("", |(_, rest)| rest).split('}').next().unwrap_or_default();
    let pairs = elements.split(',').filter_map(|pair| pair.trim().split_once(" . "));
    Ok(pairs.map(|(link, address)| (link.trim_matches('"').to_owned(), address.trim().to_owned())).unzip())
}
