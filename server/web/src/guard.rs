//! What stands before every handler: the host, the origin of changes, and what every answer says
//! to the browser.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::Hostname;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::problem::{Failed, Problem};
use crate::state::Shared;

/// No inline script, no inline style, no nonce; nothing from elsewhere.
pub const CSP: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; \
                       connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Who is at the other end of the balancer, as the balancer says.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    pub address: Option<IpAddr>,
}

/// Lets a request through when it is for this site, and notes who sent it.
pub async fn guard(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let Some(authority) = authority(headers) else { return misdirected() };
    let host = host(authority).and_then(|host| host.parse::<Hostname>().ok());
    if !host.is_some_and(|host| state.hosts.contains(&host)) {
        return misdirected();
    }
    let address = text(headers, "x-forwarded-for").and_then(|all| all.rsplit(',').next()?.trim().parse().ok());
    request.extensions_mut().insert(Visitor { address });
    next.run(request).await
}

/// Before every page and form: what changes anything has to come from this site, since a browser sends its cookie
/// with whatever another site made it ask.
pub async fn ours(request: Request, next: Next) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let headers = request.headers();
    if !looks && !authority(headers).is_some_and(|authority| from_here(headers, authority)) {
        return Failed::Page(Problem::foreign()).into_response();
    }
    next.run(request).await
}

/// A page of another site can send a form here, with our cookie under some conditions, but cannot
/// write these headers. A browser that sends neither is too old, a program has no session.
fn from_here(headers: &HeaderMap, authority: &str) -> bool {
    let site = text(headers, "sec-fetch-site");
    let origin = text(headers, "origin");
    if site.is_none() && origin.is_none() {
        return false;
    }
    let proto = text(headers, "x-forwarded-proto").unwrap_or("http");
    let same_site = site.is_none_or(|site| site == "same-origin");
    let same_origin = origin.is_none_or(|origin| origin.eq_ignore_ascii_case(&format!("{proto}://{authority}")));
    same_site && same_origin
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn authority(headers: &HeaderMap) -> Option<&str> {
    text(headers, "x-forwarded-host").or_else(|| text(headers, "host"))
}

fn host(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    (!host.is_empty()).then_some(host)
}

fn misdirected() -> Response {
    (StatusCode::MISDIRECTED_REQUEST, "This site has another name.\n").into_response()
}

/// On every answer, whoever made it.
pub async fn harden(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, CSP);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with that a browser sends `Origin: null` with our own forms.
    set(header::REFERRER_POLICY, "same-origin");
    if state.tls() {
        // tower-cookies takes a cookie back without `Secure`, which a browser ignores for `__Host-`.
        let bare = |cookie: &HeaderValue| !cookie.to_str().is_ok_and(|text| text.contains("; Secure"));
        let cookies: Vec<HeaderValue> =
            headers.get_all(header::SET_COOKIE).iter().filter(|c| bare(c)).cloned().collect();
        if let Some(Ok(cookie)) =
            cookies.first().map(|c| HeaderValue::from_bytes(&[c.as_bytes(), b"; Secure"].concat()))
        {
            headers.insert(header::SET_COOKIE, cookie);
        }
        let mut set = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    // A page of a signed-in user is nobody's to keep.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], good: bool) {
        let map = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        assert_eq!(from_here(&map, "berth.example:8080"), good, "{headers:?}");
    }

    #[test]
    fn only_forms_of_the_site_itself_change_anything() {
        check(&[], false);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("origin", "http://berth.example:8080")], true);
        check(&[("origin", "https://berth.example:8080"), ("x-forwarded-proto", "https")], true);
        check(&[("origin", "https://berth.example:8080")], false);
        check(&[("origin", "http://berth.example")], false);
        check(&[("origin", "http://shop.berth.example:8080")], false);
        check(&[("origin", "null")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "none")], false);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")], false);
        check(&[("sec-fetch-site", "cross-site"), ("origin", "http://berth.example:8080")], false);
    }

    #[test]
    fn a_host_is_read_without_its_port() {
        assert_eq!(host("berth.example:8080"), Some("berth.example"));
        assert_eq!(host("berth.example"), Some("berth.example"));
        assert_eq!(host(":8080"), None);
    }
}
