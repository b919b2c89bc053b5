//! Whether the network wants a login first: a captive portal.
//!
//! Such a network answers in the place of every server. HTTPS cannot tell it from a broken one, plain HTTP can: the
//! destination's name is asked for a page, and the answer comes from somebody else. Nothing in it is believed.

use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::http::header::LOCATION;

use crate::error::plain;

/// A login page is near, or it is none.
const PATIENCE: Duration = Duration::from_secs(4);
/// "Network Authentication Required" (RFC 6585 §6).
const LOGIN_REQUIRED: u16 = 511;

/// Where the login page is, if a network answers for `host` and wants one; for people.
pub(crate) fn login_page(host: &str) -> Option<String> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(PATIENCE))
        .max_response_header_size(16 << 10)
        .build();
    let response = config.new_agent().get(format!("http://{host}/")).call().ok()?;
    let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
    is_portal(host, response.status().as_u16(), location)
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
