//! What a page can send, and what it cannot.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::base::Remote;

fn hosts(listed: &[&str]) -> Hosts {
    Hosts::new(listed.iter().map(|text| Host::parse(text).unwrap()).collect())
}

fn listed() -> Hosts {
    hosts(&["omnigate.internal", "gw.internal:8080", "10.0.0.7", "plain.internal:80"])
}

/// On a connection that came to 192.168.1.5.
fn tcp() -> Peer {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    Peer::plain(Remote::Tcp(at("192.168.1.9:50000")), Some(at("192.168.1.5:6664")))
}

fn ask(peer: &Peer, host: &str, fields: &[(&str, &str)]) -> Result<(), FromAPage> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    check(&listed(), &host.parse().unwrap(), peer, &headers, Pages::Ours)
}

fn on_localhost(fields: &[(&str, &str)]) -> Result<(), FromAPage> {
    ask(&Peer::pipe(), "localhost:6664", fields)
}

#[test]
fn a_host_is_a_loopback_name_or_our_address_or_listed() {
    for host in [
        "localhost",
        "localhost:6664",
        "LocalHost:7000",
        "localhost.:6664",
        "127.0.0.1:6664",
        "127.0.0.2",
        "127.255.255.254:1",
        "[::1]:6664",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:6664",
        "[::ffff:7f00:1]",
        "omnigate.internal",
        "OmniGate.Internal.:9999",
        "gw.internal:8080",
        "GW.internal.:8080",
        "plain.internal",
        "plain.internal:80",
        "10.0.0.7:1",
        "[::ffff:10.0.0.7]",
    ] {
        for peer in [tcp(), Peer::pipe(), Peer::plain(Remote::Unix { uid: Some(1) }, None)] {
            assert_eq!(ask(&peer, host, &[]), Ok(()), "{host}");
        }
    }
    for host in ["192.168.1.5", "192.168.1.5:8080", "[::ffff:192.168.1.5]:6664"] {
        assert_eq!(ask(&tcp(), host, &[]), Ok(()), "{host}");
        assert_eq!(ask(&Peer::pipe(), host, &[]), Err(FromAPage::Host), "{host}");
    }
    let mut dual = tcp();
    dual.local = Some("[::ffff:192.168.1.5]:6664".parse().unwrap());
    assert_eq!(ask(&dual, "192.168.1.5:6664", &[]), Ok(()));
}

#[test]
fn any_other_host_is_refused() {
    for host in [
        "evil.example",
        "evil.example:6664",
        "localhost.evil.example",
        "evil.localhost",
        "app.localhost:6664",
        "localhost..",
        ".localhost",
        "localhos",
        "xlocalhost",
        "ip6-localhost",
        "omnigate.internal.evil.example",
        "evil-omnigate.internal",
        "a.omnigate.internal",
        "gw.internal",
        "gw.internal:8081",
        "plain.internal:8080",
        "192.168.1.6",
        "192.168.1.9",
        "10.0.0.8",
        "0.0.0.0:6664",
        "0:6664",
        "[::]:6664",
        "127.1",
        "127.0.1:6664",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.0.0.01",
        "[127.0.0.1]",
        "[::127.0.0.1]",
        "[::1%25lo]",
        "[fe80::1]",
        "127.0.0.1.nip.io",
        "localhost@evil.example",
        "evil.example@localhost",
        "loc%61lhost",
        "localhost:",
        "localhost:99999",
        "localhost:0x1a08",
    ] {
        let Ok(authority) = host.parse::<Authority>() else { continue };
        for peer in [tcp(), Peer::pipe()] {
            let is = check(&listed(), &authority, &peer, &HeaderMap::new(), Pages::None);
            assert_eq!(is, Err(FromAPage::Host), "{host}");
        }
    }
}

#[test]
fn an_origin_is_ours_to_the_letter_or_refused() {
    let origin = |text| on_localhost(&[("origin", text)]);
    assert_eq!(origin("http://localhost:6664"), Ok(()));
    for foreign in [
        "null",
        "",
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:6664",
        "HTTP://localhost:6664",
        "http://127.0.0.1:6664",
        "http://localhost:6664/",
        "http://localhost:6664/a",
        "http://localhost:6664?",
        "http://localhost:6664@evil.example",
        "http://evil.example@localhost:6664",
        "http://evil.example",
        "http://evil.example#localhost:6664",
        "http://localhost:6664, http://localhost:6664",
        "http://localhost:6664 http://evil.example",
        "//localhost:6664",
        "localhost:6664",
        "http:localhost:6664",
        "http://",
        "chrome-extension://abcdef",
        "file://",
        "http://[::1]:6664",
        "\u{e9}",
    ] {
        assert_eq!(origin(foreign), Err(FromAPage::Origin), "{foreign}");
    }
    let ours = ("origin", "http://localhost:6664");
    assert_eq!(on_localhost(&[ours, ours]), Err(FromAPage::Origin));
    assert_eq!(on_localhost(&[("origin", "null"), ours]), Err(FromAPage::Origin));
}

#[test]
fn an_origin_without_a_port_has_the_ports_default() {
    let plain = Peer::pipe();
    let secure = Peer { secure: true, ..Peer::pipe() };
    for (peer, host, origin, is) in [
        (&plain, "localhost", "http://localhost", Ok(())),
        (&plain, "localhost:80", "http://localhost", Ok(())),
        (&plain, "localhost", "http://localhost:80", Ok(())),
        (&plain, "localhost", "https://localhost", Err(FromAPage::Origin)),
        (&plain, "localhost:443", "http://localhost", Err(FromAPage::Origin)),
        (&secure, "localhost", "https://localhost", Ok(())),
        (&secure, "localhost:443", "https://localhost", Ok(())),
        (&secure, "localhost", "http://localhost", Err(FromAPage::Origin)),
        (&secure, "localhost:80", "https://localhost", Err(FromAPage::Origin)),
    ] {
        assert_eq!(ask(peer, host, &[("origin", origin)]), is, "{host} {origin}");
    }
    assert_eq!(ask(&plain, "plain.internal", &[]), Ok(()));
    assert_eq!(ask(&secure, "plain.internal", &[]), Err(FromAPage::Host));
}

#[test]
fn a_browser_that_says_for_whom_it_asks_is_believed_only_for_our_own_pages() {
    let site = |text| on_localhost(&[("sec-fetch-site", text), ("user-agent", "Mozilla/5.0")]);
    for own in ["same-origin", "none"] {
        assert_eq!(site(own), Ok(()), "{own}");
    }
    for other in ["cross-site", "same-site", "", "Same-Origin", "same-origin, none", "none;a", "x"]
    {
        assert_eq!(site(other), Err(FromAPage::FetchSite), "{other}");
    }
    let own = ("sec-fetch-site", "same-origin");
    assert_eq!(on_localhost(&[own, own]), Err(FromAPage::FetchSite));
    // It does not excuse a foreign Origin.
    let foreign = ("origin", "http://localhost:3000");
    assert_eq!(on_localhost(&[own, foreign]), Err(FromAPage::Origin));
}

#[test]
fn a_browser_that_does_not_say_for_whom_it_asks_is_told_by_what_no_page_can_change() {
    let agent = ("user-agent", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/604.1");
    let page = ("referer", "https://evil.example/a");
    assert_eq!(on_localhost(&[page]), Err(FromAPage::Referer));
    assert_eq!(on_localhost(&[page, agent]), Err(FromAPage::Referer));
    assert_eq!(on_localhost(&[agent]), Err(FromAPage::Silent));
    assert_eq!(on_localhost(&[("user-agent", "mozilla/4.0")]), Err(FromAPage::Silent));
    for on_its_own in [("x-requested-with", "com.app"), ("authorization", "Basic eDp5")] {
        assert_eq!(on_localhost(&[agent, on_its_own]), Err(FromAPage::Silent), "{on_its_own:?}");
    }
    let ours = ("referer", "http://localhost:6664/a?b");
    assert_eq!(on_localhost(&[agent, ours]), Ok(()));
    for not_ours in ["", "about:client", "http://localhost:66640/", "http://localhost:6664@evil/"] {
        assert_eq!(on_localhost(&[("referer", not_ours)]), Err(FromAPage::Referer), "{not_ours}");
    }
    assert_eq!(on_localhost(&[ours, ours]), Err(FromAPage::Referer));
    // A script that calls itself so can add what a page cannot.
    for added in [
        ("x-omnigate", "1"),
        ("x-omnigate-caller", "notebook"),
        ("x-omnigate-token", "t"),
        ("authorization", "Bearer dummy"),
    ] {
        assert_eq!(on_localhost(&[agent, added]), Ok(()), "{added:?}");
        assert_eq!(on_localhost(&[page, added]), Err(FromAPage::Referer), "{added:?}");
    }
}

#[test]
fn what_only_browsers_send_for_pages_is_refused() {
    for name in OF_PAGES {
        assert_eq!(on_localhost(&[(name, "x")]), Err(FromAPage::Field(name)));
    }
}

#[test]
fn programs_are_let_in() {
    for fields in [
        &[][..],
        &[("user-agent", "curl/8.5.0"), ("accept", "*/*")],
        &[("user-agent", "node"), ("sec-fetch-mode", "cors"), ("accept-language", "*")],
        &[("user-agent", "python-requests/2.32"), ("authorization", "Bearer dummy")],
        &[("user-agent", "axios/1.7"), ("x-requested-with", "XMLHttpRequest")],
    ] {
        assert_eq!(on_localhost(fields), Ok(()), "{fields:?}");
    }
}

#[test]
fn a_listed_host_is_one_name_with_or_without_a_port() {
    for (text, same) in [
        ("omnigate.internal", "OMNIGATE.internal."),
        ("gw.internal:8080", "gw.internal.:8080"),
        ("10.0.0.7", "[::ffff:10.0.0.7]"),
        ("[fd00::7]:1", "[FD00:0::7]:1"),
    ] {
        assert_eq!(Host::parse(text), Host::parse(same), "{text}");
        assert!(Host::parse(text).is_ok(), "{text}");
    }
    assert_ne!(Host::parse("gw.internal"), Host::parse("gw.internal:80"));
    for (text, error) in [
        ("", BadHost::Empty),
        ("http://gw.internal", BadHost::Scheme),
        ("gw.internal/", BadHost::Path),
        ("gw.internal?a", BadHost::Path),
        ("gw.internal#a", BadHost::Path),
        ("gw\\internal", BadHost::Path),
        ("me@gw.internal", BadHost::User),
        ("*.internal", BadHost::Wildcard),
        ("*", BadHost::Wildcard),
        ("gw.internal:", BadHost::Port),
        ("gw.internal:0", BadHost::Port),
        ("gw.internal:+1", BadHost::Port),
        ("gw.internal:65536", BadHost::Port),
        ("gw.internal:x", BadHost::Port),
        ("fd00::7", BadHost::Name),
        ("[fd00::7", BadHost::Name),
        ("[10.0.0.7]", BadHost::Name),
        ("gw internal", BadHost::Name),
        ("gw..internal", BadHost::Name),
        ("gw,internal", BadHost::Name),
        (".", BadHost::Name),
        ("10.0.0.07", BadHost::Name),
        ("10.7", BadHost::Name),
        ("0x7f.1", BadHost::Name),
        ("\u{e9}.internal", BadHost::Name),
    ] {
        assert_eq!(Host::parse(text), Err(error), "{text}");
    }
    assert!(Host::parse(&format!("{}.internal", "a".repeat(64))).is_err());
}

#[test]
fn pages_are_refused_on_every_kind_of_connection() {
    let unix = Peer::plain(Remote::Unix { uid: Some(1001) }, None);
    let secure = Peer { secure: true, ..tcp() };
    let certificate = Arc::new(crate::base::Certificate { names: vec!["a".to_owned()] });
    let certified = Peer { certificate: Some(certificate), ..secure.clone() };
    for peer in [Peer::pipe(), unix, tcp(), secure, certified] {
        assert_eq!(ask(&peer, "evil.example", &[]), Err(FromAPage::Host));
        let origin = [("origin", "https://evil.example")];
        assert_eq!(ask(&peer, "localhost", &origin), Err(FromAPage::Origin));
        let site = [("sec-fetch-site", "cross-site")];
        assert_eq!(ask(&peer, "localhost", &site), Err(FromAPage::FetchSite));
    }
}

#[test]
fn where_we_have_no_pages_nothing_counts_as_one_of_ours() {
    let ours = "http://localhost:6664";
    for (fields, on_operators, on_callers) in [
        (&[("origin", ours)][..], Ok(()), Err(FromAPage::Origin)),
        (&[("sec-fetch-site", "same-origin")], Ok(()), Err(FromAPage::FetchSite)),
        (&[("sec-fetch-site", "none")], Ok(()), Err(FromAPage::FetchSite)),
        (
            &[("sec-fetch-site", "same-origin"), ("x-omnigate", "1")],
            Ok(()),
            Err(FromAPage::FetchSite),
        ),
        (&[("sec-fetch-site", "none"), ("x-omnigate", "1")], Ok(()), Ok(())),
        (&[("sec-fetch-site", "none"), ("authorization", "Bearer dummy")], Ok(()), Ok(())),
        (
            &[("referer", "http://localhost:6664/a"), ("user-agent", "Mozilla/5.0")],
            Ok(()),
            Err(FromAPage::Silent),
        ),
        (&[("sec-fetch-mode", "cors"), ("user-agent", "node")], Ok(()), Ok(())),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let host = "localhost:6664".parse().unwrap();
        let is = |pages| check(&listed(), &host, &Peer::pipe(), &headers, pages);
        assert_eq!(is(Pages::Ours), on_operators, "{fields:?}");
        assert_eq!(is(Pages::None), on_callers, "{fields:?}");
    }
}
