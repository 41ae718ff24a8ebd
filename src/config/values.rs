//! The kinds of value that a configuration holds, read from text with a sentence when they are wrong.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::fault::short;

/// Reads text and turns it into a value, or fails with the parser's sentence.
pub(super) fn parsed<'de, D, T, E, F>(deserializer: D, parse: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: Display,
    F: FnOnce(&str) -> Result<T, E>,
{
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(de::Error::custom)
}

/// A host and a port, written `host:port` or `[IPv6]:port`. Host names are kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl HostPort {
    /// The address, if the host is one rather than a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is not host:port", short(text));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| format!("`{}` is not a port", short(port)))?;
        if port == 0 {
            return Err("the port must be between 1 and 65535".to_owned());
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            None => host_name(host).map_err(|_| wrong())?,
        };
        Ok(Self { host, port })
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, str::parse)
    }
}

/// A length of time, written as a number with its unit (`30s`, `5m`, `12h`, `7d`) or as a plain number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit: u64 = match unit.trim() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(format!("`{}` is not a length of time like 30s, 5m, 12h or 7d", short(text))),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| format!("`{}` is not a length of time like 30s, 5m, 12h or 7d", short(text)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, str::parse)
    }
}

/// A host name (letters, digits, hyphens, dots; other scripts become their ASCII form) or an IPv4 address, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    match url::Host::parse(text) {
        Ok(host @ url::Host::Ipv4(_)) => Ok(host.to_string()),
        Ok(url::Host::Domain(name)) if name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) => Ok(name),
        _ => Err(format!("`{}` is not a host name", short(text))),
    }
}

/// A web address that the operator wrote. It keeps the text as written, because OAuth compares a redirect address as
/// text (RFC 6749 section 3.1.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    written: String,
    url: Url,
}

impl WebUrl {
    /// The address exactly as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The address taken apart and normalised.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the host is this machine: `localhost`, 127.0.0.0/8 or `::1`.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

impl Display for WebUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

impl FromStr for WebUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself is not quoted: it may carry a password.
        let url = Url::parse(text).map_err(|error| format!("not a web address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("a web address begins with https:// or http://, not {}:", short(url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a web address must not carry a name or password".to_owned());
        }
        Ok(Self { written: text.to_owned(), url })
    }
}

impl<'de> Deserialize<'de> for WebUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port() {
        for (text, host, port) in [
            ("127.0.0.1:5222", "127.0.0.1", 5222),
            ("XMPP.example.org:1", "xmpp.example.org", 1),
            ("[::1]:5223", "::1", 5223),
            ("localhost:65535", "localhost", 65535),
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text.to_lowercase());
        }
        for text in
            ["", "host", "host:", ":1", "host:0", "host:65536", "::1:5222", "[::g]:1", "a b:1", "a/b:1", "u@h:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn web_addresses_stay_as_written() {
        let url: WebUrl = "https://login.example.org".parse().unwrap();
        assert_eq!((url.as_str(), url.url().as_str()), ("https://login.example.org", "https://login.example.org/"));
        for text in ["ftp://a/", "example.org", "https://", "https://me:hunter2@a/"] {
            let error = text.parse::<WebUrl>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn lengths_of_time() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("12h", 43_200), ("7d", 604_800), ("90", 90), (" 2 m", 120)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "s", "-1s", "1.5h", "1w", "7 days", "99999999999999999999", "18446744073709551615d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback() {
        let loopback = |text: &str| text.parse::<WebUrl>().unwrap().is_loopback();
        assert!(loopback("http://127.3.2.1:8/") && loopback("http://[::1]/") && loopback("http://LocalHost/x"));
        assert!(
            !loopback("http://example.org/")
                && !loopback("http://localhost.example.org/")
                && !loopback("http://10.0.0.1/")
        );
    }
}
