//! Every kind of address that is no public host's, and every way to write one.

use super::*;

#[test]
#[rustfmt::skip] // a list to read, not a column
fn public_addresses() {
    for ip in [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
        "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "203.0.112.255", "203.0.114.0",
        "223.255.255.255", "2606:4700:4700::1111", "2a00:1450::1", "2001:200::1", "2001:4860:4860::8888", "2003::1",
        "2620:4f:7fff::1", "64:ff9b::8.8.8.8", "2a00:1450::5efe:1",
    ] {
        assert!(is_public(ip.parse().unwrap()), "{ip}");
    }
}

#[test]
#[rustfmt::skip] // a list to read, not a column
fn addresses_that_are_not_public() {
    for ip in [
        // IPv4: the first and the last of each block.
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
        "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0",
        "192.0.0.255", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.0", "192.168.255.255",
        "192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.255", "224.0.0.1", "239.255.255.255",
        "240.0.0.0", "255.255.255.254", "255.255.255.255",
        // IPv6.
        "::", "::1", "::2", "fc00::1", "fd12:3456::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1", "100::1",
        "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff::1", "2001:db8::1", "2002::1", "3fff::1",
        "3fff:fff::1", "3ffe::1", "5f00::1", "4000::1", "1fff::1", "e000::1", "2620:4f:8000::1", "64:ff9b:1::1",
        "64:ff9b:1:ffff::8.8.8.8",
        // IPv4 in IPv6 clothes: mapped (of a public one, too: nobody needs it), translated, compatible, NAT64, 6to4, Teredo, ISATAP.
        "::ffff:127.0.0.1", "0:0:0:0:0:ffff:7f00:1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "::127.0.0.1", "::8.8.8.8",
        "::a00:1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::1:0:0:1",
        "64:ff9b:0:0:0:1:808:808", "2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:a00:1", "fe80::5efe:a00:1",
        "2a00:1450:0:1:0:5efe:808:808",
    ] {
        assert!(!is_public(ip.parse().unwrap()), "{ip}");
    }
}

#[test]
fn targets() {
    for (url, whole) in [
        ("http://a.example", "http://a.example/"),
        ("HTTPS://A.Example:8443/X?y=Z#frag", "https://a.example:8443/X?y=Z"),
        ("http://a.example?x", "http://a.example/?x"),
        ("http://a.example#x", "http://a.example/"),
        ("http://8.8.8.8:80/", "http://8.8.8.8:80/"),
        ("http://[2606:4700::1]:8080/x", "http://[2606:4700::1]:8080/x"),
        ("http://a_b.example/@x", "http://a_b.example/@x"),
        ("http://xn--bcher-kva.example/%20", "http://xn--bcher-kva.example/%20"),
        // Forms that the check at connect time is for.
        ("http://localhost:5000/", "http://localhost:5000/"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://[::]/", "http://[::]/"),
        ("http://0xcafe.example/", "http://0xcafe.example/"),
    ] {
        assert_eq!(Target::parse(url).map(|t| t.url()).as_deref(), Ok(whole), "{url}");
    }
}

#[test]
#[rustfmt::skip] // a list to read, not a column
fn what_is_no_target() {
    let long = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX));
    let long_host = format!("http://{}example/", "a.".repeat(200));
    for url in [
        "", "a.example", "//a.example/", "http:/a", "http:a", "://a", "file:///etc/passwd", "ftp://a.example/",
        "gopher://a.example/", "unix:///run/x", "data:text/plain,x", "javascript:alert(1)", "http+unix://x/",
        " http://a.example", "http://", "http:///x", "http://?x", "http://#x", "http://user@a.example/",
        "http://user:pass@a.example/", "http://good.example@127.0.0.1/", "http://good.example%40evil/",
        "http://a.example\\@127.0.0.1/", "http://a.example\\.evil/", "http://a b/", "http://a.example/a b",
        "http://a\t.example/", "http://a.example/\r\nHost: x", "http://bücher.example/", "http://a.example/ü",
        "http://①②⑦.⓪.⓪.①/", "http://localhost./", "http://metadata.google.internal./", "http://a..example/", "http://.a/",
        "http://*/", "http://a,b/", "http://a;b/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://017700000001/", "http://127.1/", "http://0/", "http://0x/", "http://127.0.0.1.5/",
        "http://256.0.0.1/", "http://1.2.3.0X4/", "http://[::1/", "http://[::1]x/", "http://[::1]:/", "http://[127.0.0.1]/",
        "http://[fe80::1%25lo]/", "http://[v1.x]/", "http://::1/", "http://a:/", "http://a:x/", "http://a:+80/",
        "http://a:80:80/", "http://a:65536/", "http://a:0/", "http://a:22/", "http://a:25/", "http://a:443443/",
        "http://a:6379/", "http://a:3306/", "http://a:11211/", "http://a:2375/", "http://a:81/", "http://a:1023/", &long,
        &long_host,
    ] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
}

#[test]
fn redirects() {
    let from = |base: &str, location: &str| Target::parse(base).unwrap().join(location).map(|t| t.url());
    for (base, location, whole) in [
        ("http://a.example/x/y?z", "https://b.example/", "https://b.example/"),
        ("http://a.example/x/y?z", "HTTP://B.example", "http://b.example/"),
        ("https://a.example:8443/x/y?z", "//b.example/q", "https://b.example/q"),
        ("https://a.example:8443/x/y?z", "/q?r#s", "https://a.example:8443/q?r"),
        ("http://a.example/x/y?z", "w", "http://a.example/x/w"),
        ("http://a.example/x/y?z=a/b", "../w:v", "http://a.example/x/../w:v"),
        ("http://a.example/x/y?z", "?w", "http://a.example/x/y?w"),
        ("http://a.example/x/y?z", "#w", "http://a.example/x/y?z"),
        ("http://a.example", "w", "http://a.example/w"),
    ] {
        assert_eq!(from(base, location).as_deref(), Ok(whole), "{base} {location}");
    }
    for (base, location) in [
        ("https://a.example/", "http://a.example/"),
        ("http://a.example/", "file:///etc/passwd"),
        ("http://a.example/", "javascript:x"),
        ("http://a.example/", "//user@127.0.0.1/"),
        ("http://a.example/", "http:\\\\127.0.0.1"),
        ("http://a.example/", "/a\u{1}b"),
        ("http://a.example/", "//a.example:22/"),
        ("http://a.example/", "//localhost./"),
        ("http://a.example/", "http://[::ffff:127.0.0.1"),
    ] {
        assert!(from(base, location).is_err(), "{base} {location}");
    }
}
