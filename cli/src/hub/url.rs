//! Addresses: just enough to follow a redirect and to know whose token may go along.

use std::fmt::{self, Display, Write};

/// An `http` or `https` address without user or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    is_https: bool,
    /// Host and port, in lower case, the scheme's own port left out.
    host: String,
    /// Path and query; begins with a slash.
    path: String,
}

impl Url {
    /// `None` for anything that is not an address we would go to.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let own_port = if is_https { ":443" } else { ":80" };
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix(own_port).unwrap_or(&host);
        // No user: `https://hub@elsewhere` is elsewhere.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty() || !host.chars().all(is_plain) {
            return None;
        }
        Some(Self {
            is_https,
            host: host.to_owned(),
            path: path_of(path)?,
        })
    }

    /// Where a `Location` leads from here; `None` if that is nowhere.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.is_https { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        if !location.starts_with('/') {
            return Self::parse(location);
        }
        Some(Self {
            path: path_of(location)?,
            ..self.clone()
        })
    }

    /// This address with `segments` below it, each written so that it stays one segment.
    pub(super) fn below(&self, segments: &[&str]) -> Self {
        let mut path = self.path.trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.push_str(&escaped(segment));
        }
        Self {
            path,
            ..self.clone()
        }
    }

    /// Whether a secret for one of them may be sent to the other: same scheme, host and port.
    pub(super) fn has_same_origin(&self, other: &Self) -> bool {
        self.is_https == other.is_https && self.host == other.host
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the host is this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self
            .host
            .rsplit_once(':')
            .map_or(&*self.host, |(host, _)| host);
        matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    }

    /// The address to send a request to.
    pub(super) fn to_request(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.host, self.path)
    }
}

/// Without the query, which in a redirect's address may be a key to the file.
impl Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.to_request();
        let shown = address.split('?').next().unwrap_or_default();
        f.write_str(shown.trim_end_matches('/'))
    }
}

fn path_of(text: &str) -> Option<String> {
    let text = text.split('#').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_graphic();
    let slash = if text.starts_with('/') { "" } else { "/" };
    text.chars().all(is_plain).then(|| format!("{slash}{text}"))
}

fn escaped(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = url("https://Hub.example:443/x");
        assert!(hub.has_same_origin(&url("https://hub.example/y?z")));
        for other in [
            "http://hub.example/",
            "https://hub.example:8443/",
            "https://hub.example.org/",
            "https://ahub.example/",
        ] {
            assert!(!hub.has_same_origin(&url(other)), "{other}");
        }
        assert!(url("http://127.0.0.1:80").has_same_origin(&url("http://127.0.0.1/a")));
        assert!(!url("http://127.0.0.1:8000").has_same_origin(&url("http://127.0.0.1:8001")));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "hub.example",
            "ftp://hub.example/a",
            "file:///etc/passwd",
            "https://",
            "https:///a",
            "https://hub.example@elsewhere.example/",
            "https://hub.example/a b",
            "https://hub.example/a\r\nX: y",
        ] {
            assert_eq!(Url::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn redirects_lead_from_where_one_is() {
        let here = url("https://hub.example/a/b?c");
        let joined = |location| here.join(location).map(|url| url.to_request());
        assert_eq!(joined("/d?e").unwrap(), "https://hub.example/d?e");
        assert_eq!(joined("//cdn.example/d").unwrap(), "https://cdn.example/d");
        assert_eq!(joined("http://cdn.example").unwrap(), "http://cdn.example/");
        assert_eq!(joined("file:///d"), None);
        assert_eq!(joined("d"), None);
    }

    #[test]
    fn segments_stay_segments_and_queries_are_not_shown() {
        let url = url("https://hub.example/mirror/").below(&["api", "refs/pr/1", "é?#"]);
        let shown = "https://hub.example/mirror/api/refs%2Fpr%2F1/%C3%A9%3F%23";
        assert_eq!(url.to_string(), shown);
        assert_eq!(
            url.join("/x?signature").unwrap().to_string(),
            "https://hub.example/x"
        );
    }
}
