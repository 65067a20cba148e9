//! [`Hub`]: a server on this machine that speaks the hub's protocol, and its faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::json;
use sha2::{Digest, Sha256};

/// The files of a commit.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A hub with the one repository `org/nano`, that serves until the test's end.
///
/// Files of a megabyte and more are answered as the hub answers large ones: by a redirect to
/// `/cdn/…`, here or of [another server](Behaviour::elsewhere), whose headers state size and
/// SHA-256. Others are redirected within the hub, and have an ETag that is no SHA-256.
pub struct Hub {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    commits: BTreeMap<String, Files>,
    behaviour: Behaviour,
    requests: Vec<Request>,
}

/// What the server does that not every server does.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Where large files lie, if not here.
    pub elsewhere: Option<SocketAddr>,
    /// Asks for this token.
    pub token: Option<String>,
    /// Answers everything by a status and an `X-Error-Code`.
    pub refuses: Option<(u16, &'static str)>,
    /// Answers so many requests by 503 first.
    pub n_unavailable: usize,
    /// Ends connections after so many bytes of a large file.
    pub breaks_after: Option<usize>,
    /// Breaks once, and is unavailable from then on.
    pub dies_at_break: bool,
    /// Sends whole files, whatever range is asked for.
    pub ignores_ranges: bool,
    /// States this SHA-256 for large files.
    pub lies_about_sha256: Option<String>,
    /// States that large files have so many bytes more, or fewer.
    pub lies_about_size: isize,
    /// Lists these files as well.
    pub also_lists: Vec<String>,
}

/// A request as it came, header names in lower case.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: BTreeMap<String, String>,
}

/// The commit that `main` is.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/// A commit before, tagged `v1`.
pub const OLDER: &str = "0123456789012345678901234567890123456789";

impl Hub {
    /// Serves `files` at [`COMMIT`].
    pub fn start(files: Files) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            commits: BTreeMap::from([(COMMIT.to_owned(), files)]),
            behaviour: Behaviour::default(),
            requests: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                // A client that hangs up is no fault of the server.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &shared)));
            }
        });
        Hub { address, state }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the server does.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// Adds or replaces a commit.
    pub fn commit(&self, commit: &str, files: Files) {
        self.lock().commits.insert(commit.to_owned(), files);
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent.
    n_sent: usize,
}

impl Reply {
    fn new(status: u16, body: Vec<u8>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            n_sent: body.len(),
            body,
        }
    }

    fn header(mut self, name: &'static str, value: impl ToString) -> Reply {
        self.headers.push((name, value.to_string()));
        self
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let request = Request {
        method,
        path,
        headers,
    };
    let reply = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.reply(&request)
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} Word\r\n", reply.status)?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    let n_bytes = reply.body.len();
    write!(
        stream,
        "Content-Length: {n_bytes}\r\nConnection: close\r\n\r\n"
    )?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body[..reply.n_sent])?;
    }
    stream.flush()
}

impl State {
    fn reply(&mut self, request: &Request) -> Reply {
        let behaviour = &mut self.behaviour;
        if behaviour.n_unavailable > 0 {
            behaviour.n_unavailable -= 1;
            return Reply::new(503, Vec::new());
        }
        if let Some((status, code)) = behaviour.refuses {
            return Reply::new(status, Vec::new()).header("X-Error-Code", code);
        }
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        if let ["cdn", commit, name @ ..] = parts.as_slice() {
            return self.large(request, commit, &name.join("/"));
        }
        let token = behaviour
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        if token.is_some() && request.headers.get("authorization") != token.as_ref() {
            return Reply::new(401, Vec::new());
        }
        match parts.as_slice() {
            ["api", "models", "org", "nano", "revision", revision] => self.listing(revision),
            ["org", "nano", "resolve", commit, name @ ..] => self.file(commit, &name.join("/")),
            ["api", "small", commit, name @ ..] => {
                let Some(body) = self.content(commit, &name.join("/")) else {
                    return Reply::new(404, Vec::new());
                };
                let etag = format!("\"{}\"", &sha256(&body)[..40]);
                let reply = Reply::new(200, body).header("ETag", etag);
                reply.header("X-Repo-Commit", commit)
            }
            _ => Reply::new(404, Vec::new()).header("X-Error-Code", "RepoNotFound"),
        }
    }

    fn content(&self, commit: &str, name: &str) -> Option<Vec<u8>> {
        self.commits.get(commit)?.get(name).cloned()
    }

    fn listing(&self, revision: &str) -> Reply {
        let commit = match revision {
            "main" => COMMIT,
            "v1" => OLDER,
            commit => commit,
        };
        let Some(files) = self.commits.get(commit) else {
            return Reply::new(404, Vec::new()).header("X-Error-Code", "RevisionNotFound");
        };
        let names = files.keys().chain(&self.behaviour.also_lists);
        let siblings: Vec<_> = names.map(|name| json!({"rfilename": name})).collect();
        let listing = json!({"id": "org/nano", "sha": commit, "siblings": siblings});
        Reply::new(200, listing.to_string().into())
    }

    fn file(&self, commit: &str, name: &str) -> Reply {
        let Some(body) = self.content(commit, name) else {
            return Reply::new(404, Vec::new()).header("X-Error-Code", "EntryNotFound");
        };
        let reply = Reply::new(302, b"moved".to_vec()).header("X-Repo-Commit", commit);
        if body.len() < 1 << 20 {
            return reply.header("Location", format!("/api/small/{commit}/{name}"));
        }
        let stated = self.behaviour.lies_about_sha256.clone();
        let stated = stated.unwrap_or_else(|| sha256(&body));
        let stated_size = body
            .len()
            .checked_add_signed(self.behaviour.lies_about_size);
        let host = self
            .behaviour
            .elsewhere
            .map(|address| format!("http://{address}"));
        let location = format!("{}/cdn/{commit}/{name}", host.unwrap_or_default());
        reply
            .header("X-Linked-Etag", format!("\"{stated}\""))
            .header("X-Linked-Size", stated_size.unwrap())
            .header("ETag", "\"of-the-redirect\"")
            .header("Location", location)
    }

    /// A large file, or its rest.
    fn large(&mut self, request: &Request, commit: &str, name: &str) -> Reply {
        let Some(body) = self.content(commit, name) else {
            return Reply::new(404, Vec::new());
        };
        let range = request
            .headers
            .get("range")
            .filter(|_| !self.behaviour.ignores_ranges);
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let start: Option<usize> = start.map(|start| start.parse().unwrap());
        let mut reply = match start {
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Reply::new(206, body[start..].to_vec()).header("Content-Range", range)
            }
            None => Reply::new(200, body),
        };
        let breaks_after = self
            .behaviour
            .breaks_after
            .filter(|_| request.method == "GET");
        if let Some(n_sent) = breaks_after.filter(|n| *n < reply.n_sent) {
            reply.n_sent = n_sent;
            if self.behaviour.dies_at_break {
                self.behaviour.n_unavailable = usize::MAX;
            }
        }
        reply.header("ETag", "\"of-the-cdn\"")
    }
}
