//! Tokens of the API: made, shown once and revoked on the account's page.

use super::*;

#[tokio::test]
async fn a_token_is_shown_once_and_revoked_by_a_button() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let typed = [("token-name", "<b>CI</b>"), ("scope", "write"), ("lasts", "30")];
    let made = site.post("/account/tokens", &cookie, &typed).await?;
    assert_eq!((made.status, made.headers[header::CACHE_CONTROL].to_str()?), (StatusCode::OK, "no-store"));
    let token = made.text.split("berth_").nth(1).and_then(|rest| rest.get(..40)).context("the token is shown")?;
    let token = format!("berth_{token}");
    assert!(site.state.commands.actor_by_token(&token, None).await?.is_some());
    assert!(made.says("&lt;b&gt;CI") && !made.says("<b>CI"), "{}", made.text);

    let page = site.get("/account", &cookie).await?;
    assert!(page.says("looks and changes") && page.says("Made a token") && !page.says(&token[6..]), "{}", page.text);
    assert!(page.says("Tokens and SSH keys go on"), "signing out everywhere says what it does not do");
    // Sent again, as by loading the page again: it is not made twice.
    let again = site.post("/account/tokens", &cookie, &typed).await?;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(again.says("You have a token of that name.") && again.says("id=\"token-name-err\""), "{}", again.text);

    let wrong = site.post("/account/tokens", &cookie, &[("token-name", "x"), ("lasts", "for ever")]).await?;
    assert!(wrong.says("id=\"lasts-err\"") && wrong.says("value=\"for ever\""), "{}", wrong.text);
    // What was not said is the less that a token may do.
    site.post("/account/tokens", &cookie, &[("token-name", "x"), ("scope", "<admin>")]).await?;
    let tokens = site.state.commands.tokens(&actor).await?;
    assert_eq!((tokens.len(), tokens[1].scope, tokens[1].expires), (2, domain::TokenScope::Read, None));

    let (other, _) = site.user().await?;
    let revoke = format!("/account/tokens/{}/revoke", tokens[0].id);
    assert_eq!(site.post(&revoke, &other, &[]).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(site.post("/account/tokens/x/revoke", &cookie, &[]).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(site.post(&revoke, &cookie, &[]).await?.leads_to(), "/account#tokens");
    assert!(site.state.commands.actor_by_token(&token, None).await?.is_none());

    // As many as there may be: waiting would change nothing, and what would is said beside the field.
    for n in 0..49 {
        let new = commands::NewToken { name: format!("ci {n}"), scope: domain::TokenScope::Read, lasts_days: None };
        site.state.commands.token_create(&actor, &new).await?;
    }
    let many = site.post("/account/tokens", &cookie, &[("token-name", "one more")]).await?;
    assert_eq!(many.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", many.text);
    assert!(many.says("You have 50 tokens, as many as anybody may have. Revoke one"), "{}", many.text);
    Ok(())
}
