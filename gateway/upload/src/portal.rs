//! Whether the network wants a login first: a captive portal.
//!
//! Such a network answers in the place of every server. HTTPS cannot tell it from a broken one, plain HTTP can: the
//! destination's name is asked for a page, and the answer comes from somebody else. Nothing in it is believed.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use ureq::http::Uri;

use crate::error::plain;
use crate::names::Names;
use crate::way::{CONNECTION, Toll};
use crate::wire::connect;

/// A login page is near, or it is none.
const PATIENCE: Duration = Duration::from_secs(4);
/// A longer head of an answer is not read.
const MAX_HEAD: u64 = 16 << 10;
/// "Network Authentication Required" (RFC 6585 §6).
const LOGIN_REQUIRED: u16 = 511;

/// Where the login page is, if a network answers for `host` and wants one; for people. It is asked for on the way that
/// connections to the destination take, and at their expense.
pub(crate) fn login_page(host: &str, toll: &Toll, names: &Names) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    let interface = toll.taken().interface;
    // On the port for pages; the URL's own counts for nothing.
    let address = names.addresses(format!("{host}:80"), PATIENCE).ok()?.into_iter().next()?;
    toll.pay(CONNECTION).ok()?;
    let mut tcp = connect(&address, interface.as_deref(), PATIENCE).ok()?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    toll.pay(request.len() as u64).ok()?;
    tcp.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    let mut buffer = [0; 1_024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        tcp.set_read_timeout(Some(left)).ok()?;
        let count = match (&mut tcp).take(MAX_HEAD - head.len() as u64).read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.ok().filter(|count| *count > 0)?,
        };
        toll.pay(count as u64).ok()?;
        head.extend_from_slice(buffer.get(..count)?);
        match page_in(host, &head) {
            Told::More => {}
            Told::Nothing => return None,
            Told::Page(page) => return Some(page),
        }
    }
}

/// What the head of an answer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is not over.
    More,
    /// It is no HTTP, or what an ordinary server answers.
    Nothing,
    /// Where the login page is, for people.
    Page(String),
}

/// Reads what came in the place of an answer of `host`.
pub fn page_in(host: &str, head: &[u8]) -> Told {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(status) = response.parse(head) else { return Told::Nothing };
    if status.is_partial() {
        return Told::More;
    }
    let location = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("location"));
    let location = location.and_then(|header| std::str::from_utf8(header.value).ok());
    response.code.and_then(|code| is_portal(host, code, location)).map_or(Told::Nothing, Told::Page)
}

/// A redirect within the host, mostly to HTTPS, is what ordinary servers answer.
fn is_portal(host: &str, status: u16, location: Option<&str>) -> Option<String> {
    let elsewhere = |to: &&str| {
        to.parse::<Uri>().ok().and_then(|uri| uri.host().map(|other| other != host)) == Some(true)
    };
    match status {
        LOGIN_REQUIRED => Some(location.map_or_else(|| format!("http://{host}/"), plain)),
        300..=399 => location.filter(elsewhere).map(plain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_somebody_else_or_a_demand_for_login_is_a_portal() {
        let judge = |status, location| is_portal("example.org", status, location);
        assert_eq!(judge(302, Some("http://login.hotel/?x=1")).as_deref(), Some("http://login.hotel/?x=1"));
        assert_eq!(judge(511, None).as_deref(), Some("http://example.org/"));
        for (status, location) in [
            (301, Some("https://example.org/")),
            (302, Some("/login")),
            (302, None),
            (302, Some("\u{1}")),
            (200, Some("http://login.hotel/")),
            (404, None),
        ] {
            assert_eq!(judge(status, location), None, "{status} {location:?}");
        }
    }
}
