//! A screen over time: what is asked when, and when a code is renewed. Time is an argument.

use std::time::{Duration, Instant};

use super::screen::{Size, frame};
use crate::disk::Disk;
use crate::gateway::{AskError, Code, Gateway};
use crate::overview::Overview;

/// A code that is nearly over is not shown: whoever scans it needs time to do so.
const SPARE: Duration = Duration::from_secs(60);

/// All is drawn anew so often: what the kernel says may have gone over it.
const REDRAW: Duration = Duration::from_secs(60);

/// What a screen shows, and since when.
#[derive(Debug, Default)]
pub struct Session {
    code: Option<(Code, Instant)>,
    codes_used: Option<u64>,
    shown: Vec<String>,
    drawn: Option<Instant>,
}

impl Session {
    /// The rows to draw, where they are others than before, or were drawn a while ago.
    pub fn turn(
        &mut self,
        mut overview: Overview,
        gateway: &Gateway,
        is_seen: bool,
        size: Size,
        now: Instant,
    ) -> Option<Vec<String>> {
        let status = gateway.status();
        match status.as_ref().ok().filter(|_| is_seen) {
            Some(status) => self.renew(now, status.codes_used, || gateway.pair()),
            // Nobody sees it, so that nobody can use it; the gateway forgets it in time.
            None => self.code = None,
        }
        overview.gateway = Some(status);
        let code = self.code.as_ref().map(|(code, _)| code.text.as_str());
        let rows = frame(&overview, code, size);
        let is_old = self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= REDRAW);
        if rows == self.shown && !is_old {
            return None;
        }
        self.drawn = Some(now);
        self.shown.clone_from(&rows);
        Some(rows)
    }

    /// Draws all of it again the next time.
    pub fn forget_screen(&mut self) {
        self.drawn = None;
    }

    /// A new code where there is none, where it ends soon, or where the count of used codes is another one than before: the
    /// code was used, or the gateway counts anew.
    fn renew(&mut self, now: Instant, codes_used: u64, pair: impl FnOnce() -> Result<Code, AskError>) {
        let is_used = self.codes_used.is_some_and(|before| codes_used != before);
        let is_over = self.code.as_ref().is_none_or(|(code, since)| {
            let lifetime = Duration::from_secs(code.valid_seconds);
            now.duration_since(*since) + SPARE.min(lifetime / 2) >= lifetime
        });
        if is_used || is_over {
            self.code = pair().ok().map(|code| (code, now));
        }
        self.codes_used = Some(codes_used);
    }
}

/// Whether anybody can see what a terminal shows: a serial line's other end, or a screen that is plugged in.
pub fn is_seen(disk: &dyn Disk, terminal: &str) -> bool {
    const SERIAL: [&str; 5] = ["/dev/ttyS", "/dev/ttyAMA", "/dev/ttyUSB", "/dev/ttyACM", "/dev/hvc"];
    if SERIAL.iter().any(|prefix| terminal.starts_with(prefix)) {
        return true;
    }
    let outputs = disk.list("/sys/class/drm").unwrap_or_default();
    outputs.iter().any(|output| {
        let status = disk.read(&format!("/sys/class/drm/{output}/status"), 64);
        status.is_ok_and(|status| status.starts_with(b"connected"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Result<Code, AskError> {
        Ok(Code { text: text.to_owned(), valid_seconds: 600 })
    }

    fn text(session: &Session) -> Option<&str> {
        session.code.as_ref().map(|(code, _)| code.text.as_str())
    }

    #[test]
    fn a_code_is_renewed_when_it_was_used_and_before_it_ends() {
        let (mut session, start) = (Session::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        session.renew(start, 2, || code("first"));
        session.renew(later(10), 2, || panic!("the first can be used still"));
        assert_eq!(text(&session), Some("first"));
        session.renew(later(20), 3, || code("second"));
        assert_eq!(text(&session), Some("second"));
        session.renew(later(500), 3, || panic!("the second can be used still"));
        session.renew(later(570), 3, || code("third"));
        assert_eq!(text(&session), Some("third"));
        session.renew(later(580), 0, || code("after a restart of the gateway"));
        assert_eq!(text(&session), Some("after a restart of the gateway"));
    }

    #[test]
    fn what_the_kernel_wrote_over_the_code_stays_for_a_minute_at_most() {
        let gateway = Gateway { program: "/nowhere/waypost".into() };
        let (mut session, start) = (Session::default(), Instant::now());
        let mut draws = |seconds| {
            let now = start + Duration::from_secs(seconds);
            session.turn(Overview::default(), &gateway, false, Size { columns: 80, rows: 25 }, now).is_some()
        };
        let drawn: Vec<u64> = (0..=180).step_by(10).filter(|&seconds| draws(seconds)).collect();
        assert_eq!(drawn, [0, 60, 120, 180]);
    }

    #[test]
    fn a_code_that_cannot_be_made_is_asked_for_again() {
        let (mut session, now) = (Session::default(), Instant::now());
        session.renew(now, 0, || Err(AskError::Refused("busy".into())));
        assert_eq!(text(&session), None);
        session.renew(now, 0, || code("at last"));
        assert_eq!(text(&session), Some("at last"));
    }
}
