//! The names of the real world that the fakes serve, with their real addresses.
//!
//! Gateways use them as canaries, names with an answer everybody knows: whoever answers them otherwise lies. The list
//! is data and changes with the world; the root servers stand first, in the order of their letters.

/// Addresses served for a name of the real world.
pub(super) struct WellKnown {
    pub(super) name: &'static str,
    pub(super) v4: &'static [[u8; 4]],
    pub(super) v6: &'static [[u16; 8]],
}

const fn root_server(name: &'static str, v4: &'static [[u8; 4]; 1], v6: &'static [[u16; 8]; 1]) -> WellKnown {
    WellKnown { name, v4, v6 }
}

/// Root servers as of the root hints of 2024 (b moved in November 2023), and three public resolvers.
pub(super) static WELL_KNOWN: [WellKnown; 16] = [
    root_server(
        "a.root-servers.net",
        &[[198, 41, 0, 4]],
        &[[0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30]],
    ),
    root_server(
        "b.root-servers.net",
        &[[170, 247, 170, 2]],
        &[[0x2801, 0x1b8, 0x10, 0, 0, 0, 0, 0xb]],
    ),
    root_server(
        "c.root-servers.net",
        &[[192, 33, 4, 12]],
        &[[0x2001, 0x500, 2, 0, 0, 0, 0, 0xc]],
    ),
    root_server(
        "d.root-servers.net",
        &[[199, 7, 91, 13]],
        &[[0x2001, 0x500, 0x2d, 0, 0, 0, 0, 0xd]],
    ),
    root_server(
        "e.root-servers.net",
        &[[192, 203, 230, 10]],
        &[[0x2001, 0x500, 0xa8, 0, 0, 0, 0, 0xe]],
    ),
    root_server(
        "f.root-servers.net",
        &[[192, 5, 5, 241]],
        &[[0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf]],
    ),
    root_server(
        "g.root-servers.net",
        &[[192, 112, 36, 4]],
        &[[0x2001, 0x500, 0x12, 0, 0, 0, 0, 0xd0d]],
    ),
    root_server(
        "h.root-servers.net",
        &[[198, 97, 190, 53]],
        &[[0x2001, 0x500, 1, 0, 0, 0, 0, 0x53]],
    ),
    root_server(
        "i.root-servers.net",
        &[[192, 36, 148, 17]],
        &[[0x2001, 0x7fe, 0, 0, 0, 0, 0, 0x53]],
    ),
    root_server(
        "j.root-servers.net",
        &[[192, 58, 128, 30]],
        &[[0x2001, 0x503, 0xc27, 0, 0, 0, 2, 0x30]],
    ),
    root_server(
        "k.root-servers.net",
        &[[193, 0, 14, 129]],
        &[[0x2001, 0x7fd, 0, 0, 0, 0, 0, 1]],
    ),
    root_server(
        "l.root-servers.net",
        &[[199, 7, 83, 42]],
        &[[0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42]],
    ),
    root_server(
        "m.root-servers.net",
        &[[202, 12, 27, 33]],
        &[[0x2001, 0xdc3, 0, 0, 0, 0, 0, 0x35]],
    ),
    WellKnown {
        name: "one.one.one.one",
        v4: &[[1, 1, 1, 1], [1, 0, 0, 1]],
        v6: &[
            [0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111],
            [0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1001],
        ],
    },
    WellKnown {
        name: "dns.google",
        v4: &[[8, 8, 8, 8], [8, 8, 4, 4]],
        v6: &[
            [0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888],
            [0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844],
        ],
    },
    WellKnown {
        name: "dns.quad9.net",
        v4: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        v6: &[[0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe], [0x2620, 0xfe, 0, 0, 0, 0, 0, 9]],
    },
];

/// The entry of a name given as lower-case text.
pub(super) fn well_known(name: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.name == name)
}
