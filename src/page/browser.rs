//! What a browser carries: the cookie that stands for the visitor, and where a form came from.

use axum::http::{HeaderMap, HeaderValue, header};

use super::Page;
use crate::domain::credentials::Secret;

/// Seconds that a browser keeps the cookie: longer than any sign-in lasts.
const KEPT: u32 = 3600;

/// Why a form is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Another site's page sent it.
    Elsewhere,
    /// The browser does not say whose page sent it.
    Unknown,
}

impl Page {
    /// With TLS the browser itself holds that nobody but this host set it (RFC 6265bis section 4.1.3.2).
    fn cookie_name(&self) -> &'static str {
        if self.secure { "__Host-sign-in" } else { "sign-in" }
    }

    /// What stands for the visitor. Of several cookies of the name none is believed: somebody else set one of them.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Secret> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut ours = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, value)| *name == self.cookie_name() && !value.is_empty());
        let (_, session) = ours.next()?;
        ours.next().is_none().then(|| Secret::new(session))
    }

    /// Lax, and not strict: the way back from the OAuth provider is a link from another site.
    pub(super) fn remember(&self, session: &Secret) -> Option<HeaderValue> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let session = Some(session.expose()).filter(|session| session.bytes().all(plain))?;
        self.cookie(session, KEPT)
    }

    /// Takes it back.
    pub(super) fn forget(&self) -> Option<HeaderValue> {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: u32) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.cookie_name();
        let cookie = Secret::new(format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"));
        let mut cookie = HeaderValue::from_str(cookie.expose()).ok()?;
        cookie.set_sensitive(true);
        Some(cookie)
    }

    /// Did a page of ours send this form? A browser that is asked to send no `Referer` writes `Origin: null` even then (Fetch,
    /// "append a request `Origin` header"), so `Sec-Fetch-Site` decides where there is one.
    pub(super) fn is_from_here(&self, headers: &HeaderMap) -> Result<(), Foreign> {
        let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
        match (said("sec-fetch-site"), said("origin")) {
            (Some("same-origin"), None | Some("null")) => Ok(()),
            (Some("same-origin") | None, Some(origin)) if origin == self.origin => Ok(()),
            (None, None | Some("null")) => Err(Foreign::Unknown),
            _ => Err(Foreign::Elsewhere),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{desk::Desk, page::Patience};

    fn page(address: &str) -> Arc<Page> {
        Page::new(Desk::new(mpsc::channel(1).0), address, "Bridge", Patience::default())
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_form_counts_only_from_a_page_of_ours() {
        let page = page("https://bridge.example.org");
        let ours = "https://bridge.example.org";
        let from = |all: &[(&'static str, &str)]| page.is_from_here(&headers(all));
        for good in [
            &[("sec-fetch-site", "same-origin"), ("origin", "null")][..],
            &[("sec-fetch-site", "same-origin"), ("origin", ours)],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", ours)],
        ] {
            assert_eq!(from(good), Ok(()), "{good:?}");
        }
        for bad in [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")][..],
            &[("sec-fetch-site", "cross-site"), ("origin", ours)],
            &[("sec-fetch-site", "cross-site"), ("origin", "null")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://chat.example.org")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
            &[("origin", "https://bridge.example.org.evil.example")],
            &[("origin", "http://bridge.example.org")],
            &[("origin", "https://bridge.example.org:8443")],
        ] {
            assert_eq!(from(bad), Err(Foreign::Elsewhere), "{bad:?}");
        }
        for silent in [&[][..], &[("origin", "null")]] {
            assert_eq!(from(silent), Err(Foreign::Unknown), "{silent:?}");
        }
    }

    #[test]
    fn a_cookie_is_read_among_others_and_never_one_of_two() {
        let read = |page: &Page, cookies: &[&str]| {
            let all: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
            let mut map = HeaderMap::new();
            for (name, value) in all {
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            page.session(&map).map(|session| session.expose().to_owned())
        };
        let (tls, plain) = (page("https://b.test"), page("http://127.0.0.1:8080"));
        assert_eq!(read(&tls, &["a=b; __Host-sign-in=7-1.x; c=d"]).as_deref(), Some("7-1.x"));
        assert_eq!(read(&plain, &["sign-in=7-1.x"]).as_deref(), Some("7-1.x"));
        assert_eq!(read(&tls, &["sign-in=7-1.x"]), None, "anybody of the domain could have set this");
        assert_eq!(read(&plain, &["sign-in=a; sign-in=b"]), None);
        assert_eq!(read(&plain, &["sign-in=a", "sign-in=b"]), None);
        assert_eq!(read(&plain, &["sign-in="]), None);
        assert_eq!(read(&plain, &[]), None);
    }

    #[test]
    fn a_cookie_holds_its_promises() {
        let session = Secret::new("7-1.x_Y-");
        let tls = page("https://b.test").remember(&session).unwrap();
        assert_eq!(tls, "__Host-sign-in=7-1.x_Y-; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
        assert!(tls.is_sensitive());
        let plain = page("http://127.0.0.1:8080");
        assert_eq!(plain.remember(&session).unwrap(), "sign-in=7-1.x_Y-; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        assert_eq!(plain.forget().unwrap(), "sign-in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        assert!(plain.remember(&Secret::new("a; Domain=evil")).is_none());
    }
}
