//! A proxy in front of a real OpenBao that injects one chosen fault for each request and records them all.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::Linger};
use serde_json::Value;

/// A request that the proxy received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method, in capitals.
    pub method: String,
    /// The path with the query, as sent.
    pub path: String,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How often this method and path have come, this one included.
    pub nth: usize,
    /// The number of the connection it came on, from 0.
    pub connection: usize,
    /// When it was complete.
    pub at: Instant,
}

impl Seen {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether the path is this one below `/v1/`.
    pub fn is(&self, api_path: &str) -> bool {
        self.path.strip_prefix("/v1/") == Some(api_path)
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// An answer: what the server said, or what the client is told instead.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers without Content-Length, which follows from the body.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// A success as Vault gives it: marked, and in full around these parts of it.
    pub fn vault(parts: &Value) -> Self {
        let mut body = serde_json::json!({
            "request_id": "4f66efd1-6701-df06-2cc8-652edaf8a253",
            "lease_id": "",
            "renewable": false,
            "lease_duration": 0,
            "data": null,
            "wrap_info": null,
            "warnings": null,
            "auth": null,
        });
        super::openbao::merge(&mut body, parts.clone());
        Self::json(200, &body).header("Cache-Control", "no-store")
    }

    /// An answer with a body of this type.
    pub fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), content_type.into())],
            body: body.into(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces the JSON body by what `change` makes of it.
    pub fn alter_json(&mut self, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.body).expect("the body is JSON");
        change(&mut value);
        self.body = value.to_string().into_bytes();
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} Scripted\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.status != 204 && self.status >= 200 {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Reset,
    /// An orderly end of the stream.
    Close,
}

/// The proxy's treatment of a request.
pub enum Fault {
    /// Forward it and answer what the server answers.
    Pass,
    /// Wait, then pass.
    Delay(Duration),
    /// Cut the connection; the server never sees the request.
    CutBefore(Cut),
    /// Forward it, wait for the whole answer, cut the connection instead of answering.
    CutAfter(Cut),
    /// Forward it, send only so many bytes of the answer, then cut.
    CutInside(usize, Cut),
    /// Neither forward nor answer until the client gives up or the proxy ends.
    Hang,
    /// Forward it, then never answer.
    HangAfter,
    /// Answer this; the server never sees the request.
    Answer(Reply),
    /// Forward it, but answer this.
    AnswerAfter(Reply),
    /// Send these bytes, then close; the server never sees the request.
    Raw(Vec<u8>),
    /// Forward it and send the answer byte by byte, waiting before each.
    Drip(Duration),
    /// Forward it and change the answer.
    Alter(Box<dyn FnOnce(&mut Reply) + Send>),
}

impl Fault {
    /// [`Fault::Alter`] for the JSON body.
    pub fn alter_json(change: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        Self::Alter(Box::new(move |reply| reply.alter_json(change)))
    }
}

use super::lock;

type Script = Box<dyn FnMut(&Seen) -> Fault + Send>;

/// A plain HTTP/1.1 proxy on 127.0.0.1 that asks a script what to do with each request.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Option<String>,
    script: Mutex<Script>,
    log: Mutex<Log>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    counts: HashMap<(String, String), usize>,
    connections: usize,
}

impl FaultProxy {
    /// Starts one in front of `upstream` (an `http://` address).
    pub fn start(upstream: &str, script: impl FnMut(&Seen) -> Fault + Send + 'static) -> Self {
        let upstream = upstream
            .strip_prefix("http://")
            .expect("the upstream speaks plain http");
        Self::listen(
            Some(upstream.trim_end_matches('/').to_owned()),
            Box::new(script),
        )
    }

    /// Starts one that passes everything and only records.
    pub fn recording(upstream: &str) -> Self {
        Self::start(upstream, |_| Fault::Pass)
    }

    /// Starts a server without upstream: what the script passes is answered 502.
    pub fn scripted(script: impl FnMut(&Seen) -> Fault + Send + 'static) -> Self {
        Self::listen(None, Box::new(script))
    }

    fn listen(upstream: Option<String>, script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            upstream,
            script: Mutex::new(script),
            log: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let proxy = Self {
            address,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let connection = {
                    let mut log = lock(&shared.log);
                    log.connections += 1;
                    log.connections - 1
                };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let _ = shared.serve(stream, connection);
                });
            }
        });
        proxy
    }

    /// The proxy's address with scheme and port.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.log).seen.clone()
    }

    /// How many requests came for this path below `/v1/`.
    pub fn count(&self, api_path: &str) -> usize {
        self.requests()
            .iter()
            .filter(|seen| seen.is(api_path))
            .count()
    }

    /// How many connections were accepted, those without a request included.
    pub fn connections(&self) -> usize {
        lock(&self.shared.log).connections
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream, connection: usize) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut buffered = Vec::new();
        while let Some((start_line, headers, body)) =
            read_message(&mut client, &mut buffered, true)?
        {
            let mut words = start_line.split(' ');
            let method = words.next().unwrap_or_default().to_owned();
            let path = words.next().unwrap_or_default().to_owned();
            let seen = self.record(method, path, headers, body, connection);
            let fault = (lock(&self.script))(&seen);
            match fault {
                Fault::Pass => client.write_all(&self.forward(&seen).bytes())?,
                Fault::Delay(time) => {
                    self.pause(time);
                    client.write_all(&self.forward(&seen).bytes())?;
                }
                Fault::CutBefore(how) => return cut(client, how),
                Fault::CutAfter(how) => {
                    self.forward(&seen);
                    return cut(client, how);
                }
                Fault::CutInside(count, how) => {
                    let bytes = self.forward(&seen).bytes();
                    client.write_all(&bytes[..count.min(bytes.len())])?;
                    // A reset discards what the client has not read yet.
                    self.pause(Duration::from_millis(50));
                    return cut(client, how);
                }
                Fault::Hang => return self.hang(&client),
                Fault::HangAfter => {
                    self.forward(&seen);
                    return self.hang(&client);
                }
                Fault::Answer(reply) => client.write_all(&reply.bytes())?,
                Fault::AnswerAfter(reply) => {
                    self.forward(&seen);
                    client.write_all(&reply.bytes())?;
                }
                Fault::Raw(bytes) => {
                    client.write_all(&bytes)?;
                    return cut(client, Cut::Close);
                }
                Fault::Drip(time) => {
                    for byte in self.forward(&seen).bytes() {
                        self.pause(time);
                        client.write_all(&[byte])?;
                    }
                }
                Fault::Alter(change) => {
                    let mut reply = self.forward(&seen);
                    change(&mut reply);
                    client.write_all(&reply.bytes())?;
                }
            }
        }
        Ok(())
    }

    fn record(
        &self,
        method: String,
        path: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        connection: usize,
    ) -> Seen {
        let mut log = lock(&self.log);
        let count = log
            .counts
            .entry((method.clone(), path.clone()))
            .or_default();
        *count += 1;
        let seen = Seen {
            method,
            path,
            headers,
            body,
            nth: *count,
            connection,
            at: Instant::now(),
        };
        log.seen.push(seen.clone());
        seen
    }

    fn forward(&self, seen: &Seen) -> Reply {
        self.try_forward(seen)
            .unwrap_or_else(|error| Reply::text(502, "text/plain", format!("no upstream: {error}")))
    }

    fn try_forward(&self, seen: &Seen) -> io::Result<Reply> {
        let address = self
            .upstream
            .as_deref()
            .ok_or(io::ErrorKind::NotConnected)?;
        let mut upstream = TcpStream::connect(address)?;
        let mut request = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            seen.method, seen.path
        );
        for (name, value) in &seen.headers {
            if !matches!(
                name.as_str(),
                "connection" | "transfer-encoding" | "content-length"
            ) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", seen.body.len()));
        upstream.write_all(request.as_bytes())?;
        upstream.write_all(&seen.body)?;
        let (status_line, headers, body) = read_message(&mut upstream, &mut Vec::new(), false)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let hop =
            |name: &str| matches!(name, "connection" | "transfer-encoding" | "content-length");
        Ok(Reply {
            status,
            headers: headers.into_iter().filter(|(name, _)| !hop(name)).collect(),
            body,
        })
    }

    /// Sleeps, but not beyond the end of the proxy.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn hang(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut byte = [0];
        while !self.stop.load(Ordering::Relaxed) {
            match client.read(&mut byte) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(())
    }
}

fn cut(client: TcpStream, how: Cut) -> io::Result<()> {
    if how == Cut::Reset {
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&client.as_fd(), Linger, &at_once)?;
    }
    drop(client);
    Ok(())
}

type Message = (String, Vec<(String, String)>, Vec<u8>);

/// Reads one request or answer; `None` at the end of the stream between two messages.
fn read_message(
    stream: &mut TcpStream,
    buffered: &mut Vec<u8>,
    is_request: bool,
) -> io::Result<Option<Message>> {
    let head_end = loop {
        if let Some(end) = find(buffered, b"\r\n\r\n") {
            break end;
        }
        if fill(stream, buffered)? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffered[..head_end]).into_owned();
    buffered.drain(..head_end + 4);
    let (start_line, headers) = parse_head(&head);
    let value = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };

    let mut body = Vec::new();
    if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line_end = loop {
                match find(buffered, b"\r\n") {
                    Some(end) => break end,
                    None if fill(stream, buffered)? == 0 => {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    None => {}
                }
            };
            let size = String::from_utf8_lossy(&buffered[..line_end]).into_owned();
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            buffered.drain(..line_end + 2);
            fill_to(stream, buffered, size + 2)?;
            body.extend(buffered.drain(..size));
            buffered.drain(..2);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = value("content-length") {
        let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        fill_to(stream, buffered, length)?;
        body.extend(buffered.drain(..length));
    } else if !is_request && !start_line.contains(" 204") {
        while fill(stream, buffered)? > 0 {}
        body.append(buffered);
    }
    Ok(Some((start_line, headers, body)))
}

/// Whether these bytes hold a whole request with its body.
pub(super) fn request_is_complete(bytes: &[u8]) -> bool {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return false;
    };
    let (_, headers) = parse_head(&String::from_utf8_lossy(&bytes[..end]));
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    bytes.len() >= end + 4 + length
}

fn parse_head(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.split("\r\n");
    let start_line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    (start_line, headers)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn fill(stream: &mut TcpStream, buffered: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 16 * 1024];
    let count = stream.read(&mut chunk)?;
    buffered.extend_from_slice(&chunk[..count]);
    Ok(count)
}

fn fill_to(stream: &mut TcpStream, buffered: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while buffered.len() < length {
        if fill(stream, buffered)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
