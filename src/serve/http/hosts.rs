//! Who may be asked, and by which page.
//!
//! A web page of somebody else can have its own name resolved to this machine after it was loaded (DNS rebinding): to the browser
//! the page and this server are then one site. Its requests carry that name as their `Host`, so only names are served that nobody
//! else can claim: addresses, `localhost`, and the name that the user gave.

use std::net::IpAddr;

use super::refusal::Refusal;
use super::request::Head;

/// The names that this server answers to. Ports do not matter: a tunnel may have another one.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The name or address that it listens on, as it was given.
    given: String,
    /// Whether it is reached from this machine alone.
    loopback: bool,
}

impl Hosts {
    /// Of a server that listens on `given`, which is an address of this machine alone if `loopback`.
    pub fn new(given: &str, loopback: bool) -> Self {
        Self { given: given.to_owned(), loopback }
    }

    /// Refuses a request to another name, and one that a page of another site has sent.
    ///
    /// # Errors
    /// 400 without a `Host`, 421 for another name, 403 for another site's request.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        let Some(host) = head.header("host")? else { return Err(Refusal::bad("a request must name its Host")) };
        if !self.answers_to(host) {
            let names = if self.loopback { "127.0.0.1, localhost" } else { "its addresses, localhost" };
            let text = format!("this server answers to {names} and {}, not to another Host", self.given);
            return Err(Refusal::new(421, format!("{text}; to give it a name, start it with --host NAME")));
        }

        // What only looks is kept from other sites by the headers of its answer.
        let looks = ["GET", "HEAD"].contains(&head.method.as_str());
        let from_elsewhere = head.header("origin")?.is_some_and(|origin| origin != format!("http://{host}"))
            || head.header("sec-fetch-site")?.is_some_and(|site| !["same-origin", "none"].contains(&site));
        if !looks && from_elsewhere {
            return Err(Refusal::new(403, "pages of other sites may not ask this server for anything"));
        }
        Ok(())
    }

    fn answers_to(&self, host: &str) -> bool {
        let name = without_port(host);
        if name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(&self.given) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| !self.loopback || address.is_loopback())
    }
}

/// `name` of `name:port`, and an IPv6 address without its brackets.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn status(hosts: &Hosts, method: &str, lines: &str) -> u16 {
        let text = format!("{method} / HTTP/1.1\r\n{lines}\r\n");
        let (head, _) = parse(text.as_bytes()).unwrap().unwrap();
        hosts.check(&head).map_or_else(|refusal| refusal.status, |()| 200)
    }

    #[test]
    fn only_names_that_nobody_else_can_claim_are_served() {
        let hosts = Hosts::new("127.0.0.1", true);
        for name in ["127.0.0.1:8000", "127.0.0.1", "localhost:9", "LocalHost", "[::1]:8000", "127.1.2.3:1"] {
            assert_eq!(status(&hosts, "GET", &format!("Host: {name}\r\n")), 200, "{name}");
        }
        for name in
            ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.0.7:8000", "", "[::1", "[evil]:1"]
        {
            assert_eq!(status(&hosts, "GET", &format!("Host: {name}\r\n")), 421, "{name}");
        }
        assert_eq!(status(&hosts, "GET", ""), 400);
        assert_eq!(status(&hosts, "GET", "Host: localhost\r\nHost: evil\r\n"), 400);

        let open = Hosts::new("gpu.lan", false);
        for (name, expected) in [("gpu.lan:8000", 200), ("192.168.0.7:8000", 200), ("evil.example", 421)] {
            assert_eq!(status(&open, "GET", &format!("Host: {name}\r\n")), expected, "{name}");
        }
    }

    #[test]
    fn pages_of_other_sites_may_not_ask_for_work() {
        let hosts = Hosts::new("127.0.0.1", true);
        let post = |lines: &str| status(&hosts, "POST", &format!("Host: localhost:8000\r\n{lines}"));
        assert_eq!(post(""), 200);
        assert_eq!(post("Origin: http://localhost:8000\r\nSec-Fetch-Site: same-origin\r\n"), 200);
        for lines in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost:9000\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            assert_eq!(post(lines), 403, "{lines}");
        }
        // A link on somebody's page may lead here.
        assert_eq!(status(&hosts, "GET", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), 200);
    }
}
