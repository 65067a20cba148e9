//! Requests to a hub: redirects followed by hand, so that the token goes to the hub alone;
//! failures that pass are tried again, others become errors that say what to do.
//!
//! Not hf-hub's client: its `metadata` sends the token wherever a redirect leads, its downloads
//! append whatever a server answers to a range and compare no hash, and no request has a time
//! limit.

use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::attempt::{Attempt, Failure};
use super::error::{HubError, Result};
use super::names::RepoId;
use super::roots::roots;
use super::settings::{Settings, Token};
use super::url::Url;

const MAX_REDIRECTS: usize = 8;
/// The longest that a hub may make us wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a hub may say nothing; a download as a whole may take as long as it wants.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks one hub about one repository.
pub(super) struct Client {
    agent: Agent,
    pub(super) endpoint: Url,
    token: Option<Token>,
    pub(super) id: RepoId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get,
}

/// What the last server of a chain of redirects said.
pub(super) struct Answer {
    url: Url,
    response: Response<Body>,
    /// The headers of the redirects before.
    passed: Vec<HeaderMap>,
}

impl Client {
    pub(super) fn new(settings: &Settings, id: RepoId) -> Result<Self> {
        let (endpoint, token) = (settings.endpoint.clone(), settings.token.clone());
        let certificates = roots(settings.certificates.as_deref())?;
        if token.is_some() && !endpoint.is_https() && !endpoint.is_local() {
            log::warn!("the token is sent to {endpoint} without encryption");
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(certificates).build())
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .timeout_per_write(Some(SILENCE_TIMEOUT))
            .user_agent(concat!("laconic/", env!("CARGO_PKG_VERSION")))
            // Sizes, ranges and hashes are those of the file, not of a compressed copy.
            .accept_encoding("identity")
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint,
            token,
            id,
        })
    }

    /// Gets `url` from `offset` on, wherever it leads.
    pub(super) fn get(&self, url: &Url, offset: u64, what: &str) -> Attempt<Answer> {
        self.follow(Method::Get, url, offset, what)
    }

    /// Asks for the headers of `url`, of the hub and of nobody else: a redirect elsewhere is an
    /// answer, since it carries what the hub knows of a large file.
    pub(super) fn head(&self, url: &Url, what: &str) -> Attempt<Answer> {
        self.follow(Method::Head, url, 0, what)
    }

    fn follow(&self, method: Method, url: &Url, offset: u64, what: &str) -> Attempt<Answer> {
        let mut url = url.clone();
        let mut passed = Vec::new();
        while passed.len() <= MAX_REDIRECTS {
            let response = self.send(method, &url, offset)?;
            let next = redirect(&url, &response)?;
            let is_ours = |next: &Url| next.has_same_origin(&self.endpoint);
            match next {
                Some(next) if method == Method::Get || is_ours(&next) => {
                    passed.push(response.headers().clone());
                    url = next;
                }
                next => {
                    let answer = Answer {
                        url,
                        response,
                        passed,
                    };
                    let is_fine = next.is_some() || matches!(answer.status(), 200 | 206 | 416);
                    return match is_fine {
                        true => Ok(answer),
                        false => Err(self.refused(&answer, what)),
                    };
                }
            }
        }
        let error = format!("{url}: over {MAX_REDIRECTS} redirects; is HF_ENDPOINT right?");
        Err(Failure::lasting(HubError::corrupt(error)))
    }

    fn send(&self, method: Method, url: &Url, offset: u64) -> Attempt<Response<Body>> {
        let address = url.to_request();
        let mut request = match method {
            Method::Head => self.agent.head(&address),
            Method::Get => self.agent.get(&address),
        };
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        // The one place where the token leaves: not for another host, port or scheme.
        let token = self.token.as_ref();
        if let Some(token) = token.filter(|_| url.has_same_origin(&self.endpoint)) {
            request = request.header("authorization", token.to_header());
        }
        let response = request.call().map_err(|error| unreachable(url, &error))?;
        let status = response.status().as_u16();
        if !matches!(status, 408 | 429 | 500..=599) {
            return Ok(response);
        }
        let wait = header(response.headers(), "retry-after").and_then(|wait| wait.parse().ok());
        let wait = wait.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let error = format!("{url} answers HTTP {status}; try again later");
        Err(Failure {
            wait,
            ..Failure::passing(HubError::network(error))
        })
    }

    /// What an answer that is no file means, and what to do about it.
    fn refused(&self, answer: &Answer, what: &str) -> Failure {
        let status = answer.status();
        let code = answer.header("x-error-code").unwrap_or_default();
        if !answer.url.has_same_origin(&self.endpoint) {
            // Addresses of large files are good for a while only; the hub gives another one.
            let error = format!("{} answers HTTP {status} for {what}", answer.url);
            return Failure::passing(HubError::network(error));
        }
        let put = "put one of your account into HF_TOKEN or the file HF_HOME/token";
        let page = self.endpoint.below(&self.segments());
        let message = match (status, code, &self.token) {
            (401 | 403, "GatedRepo", None) => {
                format!("{what} is gated (HTTP {status}): accept its terms at {page}, and {put}")
            }
            (403, ..) | (401, "GatedRepo", _) => format!(
                "{what} is gated or not open to this token (HTTP {status}): accept its terms at \
                 {page} with the token's account, and see that the token may read it"
            ),
            (401, _, Some(_)) => format!(
                "{what}: the hub refuses the token (HTTP 401); take another one from the hub's \
                 settings and put it into HF_TOKEN or the file HF_HOME/token; check the name, too"
            ),
            (401, _, None) => format!(
                "{what}: the hub wants a token (HTTP 401); check the name, or, if it is private \
                 or gated, {put}"
            ),
            (404, "RevisionNotFound", _) => {
                format!("{what}: there is no such revision (HTTP 404); its page is {page}")
            }
            (404, ..) => format!(
                "{what} is not there, or not for you to see (HTTP 404); check name and revision at \
                 {page}, and that HF_ENDPOINT is the hub you mean"
            ),
            _ => {
                let error = format!("{} answers HTTP {status} for {what}", answer.url);
                return Failure::lasting(HubError::network(error));
            }
        };
        let is_denied = matches!(status, 401 | 403);
        Failure::lasting(match is_denied {
            true => HubError::denied(message),
            false => HubError::missing(message),
        })
    }

    /// The repository as parts of an address.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.id.as_str().split('/').collect()
    }
}

/// Where a response redirects to, if it does.
fn redirect(url: &Url, response: &Response<Body>) -> Attempt<Option<Url>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refuse = |why| {
        let error = format!("{url} redirects {why}; is HF_ENDPOINT right?");
        Failure::lasting(HubError::corrupt(error))
    };
    let location = header(response.headers(), "location");
    let next = location.and_then(|location| url.join(location));
    let next = next.ok_or_else(|| refuse("to what is no address"))?;
    if url.is_https() && !next.is_https() {
        return Err(refuse("from https to http"));
    }
    Ok(Some(next))
}

fn unreachable(url: &Url, error: &ureq::Error) -> Failure {
    let host = url.host();
    // Rustls wraps what it finds wrong with a certificate in an I/O error of this kind.
    let is_invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
    match error {
        ureq::Error::Io(why) if is_invalid(why) => Failure::lasting(HubError::network(format!(
            "cannot trust {host}: {error}; if it is behind a proxy, or has an authority of its \
                 own, name a file of that authority's certificate in SSL_CERT_FILE"
        ))),
        ureq::Error::Tls(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            Failure::lasting(HubError::network(format!("cannot ask {host}: {error}")))
        }
        _ => Failure::passing(HubError::network(format!(
            "cannot reach {host}: {error}; is the network there, and HF_ENDPOINT right? What is in \
             the cache can be had with --offline"
        ))),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header of the last response.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(self.response.headers(), name)
    }

    /// A header of the first response that has it.
    pub(super) fn first_header(&self, name: &str) -> Option<&str> {
        let mut all = self.passed.iter().chain([self.response.headers()]);
        all.find_map(|headers| header(headers, name))
    }

    pub(super) fn into_body(self) -> Body {
        self.response.into_body()
    }
}
