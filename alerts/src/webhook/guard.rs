//! Which addresses a webhook may reach. A tenant chooses the URL and we send the request from inside our network, so
//! private addresses are refused - after DNS resolution, in the very look-up whose result is connected to, so that a name
//! cannot show one address to the check and another to the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// What is allowed beyond public addresses over https.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guard {
    /// Private, loopback and other special addresses may be reached: for receivers in the own network, and for tests.
    pub allow_private: bool,
    /// Plain http is allowed. Bodies are signed but not secret then.
    pub allow_http: bool,
}

/// Why a URL is not sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL.
    #[error("{text:?} is not a URL: {reason}")]
    NotAUrl {
        /// What was given.
        text: String,
        /// Why.
        reason: String,
    },
    /// Another scheme than https.
    #[error("the scheme {scheme:?} is not allowed for webhooks: use https")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// User name or password in the URL: they would be logged and listed.
    #[error("a webhook URL must not hold a user name or password")]
    Credentials,
    /// The address is not public.
    #[error("the address {address} is not public, and private addresses are not allowed for webhooks")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// A name whose every address is not public.
    #[error("{name} resolves to {address}, which is not public, and private addresses are not allowed for webhooks")]
    Name {
        /// The name.
        name: String,
        /// The first of its addresses.
        address: IpAddr,
    },
    /// A name without address.
    #[error("{name} has no address")]
    NoAddress {
        /// The name.
        name: String,
    },
}

impl Guard {
    /// Checks what can be known of a URL without DNS: call it where an endpoint is made, and before every attempt.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, text: &str) -> Result<Url, Refused> {
        let url =
            Url::parse(text).map_err(|error| Refused::NotAUrl { text: text.to_owned(), reason: error.to_string() })?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            scheme => return Err(Refused::Scheme { scheme: scheme.to_owned() }),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        // An http(s) URL writes any spelling of an IPv4 address in four decimal parts, and an IPv6 one in brackets.
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(Refused::Address { address }),
            Ok(_) | Err(_) => Ok(url),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow_private || is_public(address)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let name = name.as_str();
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            let allowed: Vec<SocketAddr> = all.iter().copied().filter(|found| guard.allows(found.ip())).collect();
            if !allowed.is_empty() {
                return Ok(Box::new(allowed.into_iter()) as Addrs);
            }
            let name = name.to_owned();
            Err(match all.first() {
                Some(found) => Refused::Name { name, address: found.ip() },
                None => Refused::NoAddress { name },
            }
            .into())
        })
    }
}

/// Whether an address is one of the public internet. Source: the IANA special-purpose address registries for IPv4 and
/// IPv6 (RFC 6890 and its updates); everything that is not globally reachable is refused, multicast too. An IPv6 address
/// that carries an IPv4 one is judged by that.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let in_block = |network: [u8; 4], bits: u32| {
        let mask = u32::MAX << (32 - bits);
        u32::from(address) & mask == u32::from(Ipv4Addr::from(network))
    };
    const SPECIAL: [([u8; 4], u32); 15] = [
        ([0, 0, 0, 0], 8),       // this network
        ([10, 0, 0, 0], 8),      // private
        ([100, 64, 0, 0], 10),   // carrier-grade NAT
        ([127, 0, 0, 0], 8),     // loopback
        ([169, 254, 0, 0], 16),  // link-local, cloud metadata
        ([172, 16, 0, 0], 12),   // private
        ([192, 0, 0, 0], 24),    // protocol assignments
        ([192, 0, 2, 0], 24),    // documentation
        ([192, 88, 99, 0], 24),  // 6to4 relays, deprecated
        ([192, 168, 0, 0], 16),  // private
        ([198, 18, 0, 0], 15),   // benchmarking
        ([198, 51, 100, 0], 24), // documentation
        ([203, 0, 113, 0], 24),  // documentation
        ([224, 0, 0, 0], 4),     // multicast
        ([240, 0, 0, 0], 4),     // reserved, broadcast
    ];
    !SPECIAL.iter().any(|&(network, bits)| in_block(network, bits))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => is_public_v4(v4(g, h)), // mapped; NAT64
        [0x2002, ..] => is_public_v4(v4(b, c)),                                         // 6to4
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => false, // protocol assignments with Teredo; documentation
        [0x3fff, 0..=0xfff, ..] => false,                       // documentation
        // Global unicast is 2000::/3; loopback, unique local, link-local, multicast and the rest lie outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &str, public: bool) {
        for address in addresses.split_whitespace() {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        check("8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.169.0.1 223.255.255.255", true);
        check("0.0.0.0 10.1.2.3 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255 192.168.1.1", false);
        check("100.64.0.1 100.127.255.255 192.0.0.8 192.0.2.1 198.19.0.1 198.51.100.1 203.0.113.1", false);
        check("224.0.0.1 240.0.0.1 255.255.255.255", false);
        check("2606:4700:4700::1111 2a00:1450:4001:81b::200e ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1", true);
        check(":: ::1 fe80::1 fc00::1 fd00:ec2::254 ff02::1 fec0::1 100::1 2001:db8::1 2001::1 3fff::1", false);
        check("::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1::1", false);
    }

    #[test]
    fn urls_are_judged_before_dns_however_the_address_is_written() {
        let guard = Guard::default();
        assert!(guard.check("https://hooks.example.com/x").is_ok());
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]:8443/",
            "https://[::ffff:7f00:1]/",
        ] {
            assert!(matches!(guard.check(url), Err(Refused::Address { .. })), "{url}");
        }
        assert!(matches!(guard.check("http://hooks.example.com/"), Err(Refused::Scheme { .. })));
        assert!(matches!(guard.check("file:///etc/passwd"), Err(Refused::Scheme { .. })));
        assert!(matches!(guard.check("https://eve:pw@example.com/"), Err(Refused::Credentials)));
        assert!(matches!(guard.check("hooks"), Err(Refused::NotAUrl { .. })));
        let own_network = Guard { allow_private: true, allow_http: true };
        assert!(own_network.check("http://127.0.0.1:8080/").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_unless_allowed() {
        let name = || "localhost".parse::<Name>().unwrap();
        let refused = Guard::default().resolve(name()).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(Refused::Name { .. })), "{refused}");
        let allowed = Guard { allow_private: true, allow_http: false }.resolve(name()).await.unwrap();
        assert!(allowed.count() > 0);
    }
}
