//! People: sign-up by approval, letters, and what the operator sees.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use harness::{Person, Visitor, wait};

use crate::given::{Given, SOON, given_with, samples};

/// Waits for a letter of a kind, the newest: as the operator reads it in the data directory.
fn letter(g: &Given, kind: &str) -> Result<String> {
    let dir = g.berth.data.join("mail");
    let mut found = String::new();
    wait(SOON, || {
        let mut files: Vec<_> = fs::read_dir(&dir)?.collect::<std::io::Result<Vec<_>>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        let of_kind = |file: &&fs::DirEntry| file.file_name().to_string_lossy().ends_with(&format!("-{kind}.eml"));
        let file = files.iter().rev().find(of_kind).with_context(|| format!("no letter `{kind}`"))?;
        ensure!(file.metadata()?.mode() & 0o777 == 0o600, "others read letters");
        found = fs::read_to_string(file.path())?.replace("=\r\n", "").replace("=3D", "=");
        Ok(())
    })?;
    Ok(found)
}

/// The path of the first link to a page of the site below `below`.
fn link(letter: &str, site: &str, below: &str) -> Result<String> {
    let start = format!("{site}{below}");
    let rest = letter.split(&start).nth(1).with_context(|| format!("no link to {below}:\n{letter}"))?;
    Ok(format!("{below}{}", rest.split_whitespace().next().unwrap_or_default()))
}

#[test]
fn who_signs_up_by_approval_confirms_waits_and_then_pushes() {
    given_with("people", &["--signup", "approval"], None, |g| {
        let mut operator = Visitor::new(&g.berth.site, g.berth.http);
        let path = link(&g.berth.sign_in_link("operator@localhost")?, &g.berth.site, "/signin/link/")?;
        ensure!(operator.post(&path, &[])?.status == 303, "the operator's link does not sign in");

        let mut site = Visitor::new(&g.berth.site, g.berth.http);
        let bea = Person::who_signs_up(&g.berth, "bea", &mut site)?;
        ensure!(site.get("/apps/new")?.body.contains("Confirm your e-mail address."), "nobody says what is missing");
        let refused = site.post("/apps/new", &[("name", "tides")])?;
        ensure!(refused.status == 403, "an app was made without a confirmed address: {}", refused.status);
        let confirm = link(&letter(g, "confirm")?, &g.berth.site, "/confirm/")?;
        ensure!(
            site.get(&confirm)?.status == 200 && site.post(&confirm, &[])?.status == 303,
            "the link does not confirm"
        );
        bea.add_key(&mut site)?;
        let refused = site.post("/apps/new", &[("name", "tides")])?;
        ensure!(refused.status == 403 && refused.body.contains("waits for the operator"), "{}", refused.body);
        let (_, refused) = harness::said(&mut bea.ssh(&[], &["create", "tides"]))?;
        ensure!(refused.contains("waits for the operator's approval"), "by SSH they are told: {refused}");

        let waiting = operator.get("/operator/customers?state=waiting")?.body;
        let customer = waiting.split("href=\"/operator/customers/").nth(1).and_then(|rest| rest.split('"').next());
        let customer = customer.with_context(|| format!("nobody waits:\n{waiting}"))?;
        ensure!(site.get("/operator/customers")?.status == 404, "a customer sees the operator's pages");
        let approved = operator.post(&format!("/operator/customers/{customer}/approve"), &[])?;
        ensure!(approved.status == 303, "approving answered {}", approved.status);
        ensure!(letter(g, "approved")?.contains("To: bea@localhost"), "nobody is told");

        bea.create(&mut site, "tides")?;
        bea.prepare("tides", &samples().join("static"))?;
        bea.push("tides")?;
        let activity = site.get("/apps/tides/activity")?.body;
        for says in ["Pushed to", "by SSH", "Made", "on the site", "bea"] {
            ensure!(activity.contains(says), "the activity does not say {says}:\n{activity}");
        }
        let decisions = operator.get("/operator/decisions?app=tides")?.body;
        ensure!(decisions.contains("Build deploy 1 of tides"), "{decisions}");
        wait(SOON, || {
            let servers = operator.get("/operator/servers")?.body;
            ensure!(servers.contains("tides.web.1") && servers.contains("Well"), "{servers}");
            Ok(())
        })?;

        // The password is forgotten, and set anew by a letter: whoever was signed in is signed out.
        let mut elsewhere = Visitor::new(&g.berth.site, g.berth.http);
        let asked = elsewhere.post("/reset", &[("email", "bea@localhost")])?;
        ensure!(asked.body.contains("If that address has an account"), "{}", asked.body);
        let reset = link(&letter(g, "reset")?, &g.berth.site, "/reset/")?;
        let set = elsewhere.post(&reset, &[("password", "five other words than before")])?;
        ensure!(set.status == 303, "setting a password answered {}: {}", set.status, set.body);
        ensure!(site.get("/apps")?.status == 303, "an old session goes on");
        let fields = [("email", "bea@localhost"), ("password", "five other words than before")];
        ensure!(site.post("/signin", &fields)?.status == 303, "the new password does not sign in");
        ensure!(letter(g, "password-changed")?.contains("bea@localhost"), "nobody is told of the new password");

        // As root on the server.
        let refused = g.berth.operator().says(&["user", "refuse", "bea@localhost"])?;
        ensure!(refused.contains("may not begin"), "{refused}");
        ensure!(site.post("/apps/new", &[("name", "ebb")])?.status == 403, "who was refused makes an app");
        Ok(())
    });
}
