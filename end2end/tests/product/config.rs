//! Config vars, from the page to the app.

use anyhow::ensure;
use harness::wait;

use crate::given::{DEPLOY, given};

#[test]
fn a_config_var_reaches_the_app_and_its_value_nobody_else() {
    const SAYS: &str = "import http.server, os\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200); self.end_headers()\n\
        \x20       self.wfile.write(('motto: ' + os.environ.get('MOTTO', 'none')).encode())\n\
        http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), H).serve_forever()\n";
    const SECRET: &str = "xyzzy-plugh-4711";
    given("config", |g| {
        let files = [("app.py", SAYS), ("requirements.txt", ""), ("Procfile", "web: exec python3 app.py\n")];
        g.app_of("motto", &files)?;
        g.push_well("motto")?;
        g.answers("motto", "motto: none")?;

        let secret = [("name", "MOTTO"), ("value", SECRET), ("secret", "yes")];
        let mut visitor = g.visitor("motto");
        g.post("/apps/motto/config", &secret)?;
        // Asked all the time while it is rolled out.
        wait(DEPLOY, || {
            let answer = visitor.get("/")?;
            assert_eq!(answer.status, 200, "a request was lost");
            ensure!(answer.body.contains(SECRET), "the app says `{}`", answer.body);
            Ok(())
        })?;
        for path in ["/apps/motto/config", "/apps/motto", "/apps/motto/activity", "/apps/motto/deploys/2"] {
            let page = g.site.get(path)?;
            ensure!(page.status == 200 && !page.body.contains(SECRET), "{path} shows the value");
        }
        g.page_says("/apps/motto/config", "MOTTO")?;
        let held =
            g.berth.sql("select count(*) from config_var where position('xyzzy' in encode(sealed, 'escape')) > 0")?;
        ensure!(held == "0", "PostgreSQL holds the value as it is");
        ensure!(!g.berth.last_words().contains(SECRET), "a log has the value");

        let wrong = g.site.post("/apps/motto/config", &[("name", "2ND"), ("value", SECRET), ("secret", "yes")])?;
        ensure!(wrong.status == 422 && wrong.body.contains("_2ND would do"), "{}: {}", wrong.status, wrong.body);
        ensure!(!wrong.body.contains(SECRET), "a refused secret is sent back");

        // Many at once are one release; rolled back, the first release has its own config again.
        g.post("/apps/motto/config/many", &[("text", "# both\nMOTTO=second\nOTHER='a b'\n")])?;
        g.answers("motto", "motto: second")?;
        g.post("/apps/motto/deploys/2/roll-back", &[])?;
        g.answers("motto", SECRET)?;
        let config = g.site.get("/apps/motto/config")?;
        ensure!(!config.body.contains("OTHER"), "the config was not rolled back");
        Ok(())
    });
}
