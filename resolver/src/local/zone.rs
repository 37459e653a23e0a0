//! One zone as hickory's catalog wants it: which records a name in it has, and what it says of other names.
//!
//! hickory's own in-memory handler is not used: below a wildcard it takes NODATA for NXDOMAIN, and it walks all records
//! for a name that is not there. This one never waits, so whoever polls it has the answer at once.
//!
//! Records are those of RFC 6303 section 3: SOA with the zone's own name as primary and "nobody.invalid." as contact,
//! NS with the zone's own name, no address for it. Both TTLs of the SOA record are the same.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordSet, RecordType, TSigResponseContext};
use hickory_server::server::{Request, RequestInfo};
use hickory_server::zone_handler::{
    AuthLookup, AxfrPolicy, LookupControlFlow, LookupError, LookupOptions, LookupRecords, ZoneHandler, ZoneType,
};

use super::zones::{BuiltIn, LOOPBACK_POINTERS, Shape};
use crate::wire::NameBuf;

/// What the zones that are built in say holds for an hour: it changes with the configuration only, and the longest a
/// denial is kept is an hour anyway.
const BUILT_IN_TTL_S: u32 = 3_600;

/// How long a client may keep what the hosts file says, seconds: who edits it and tries again expects to see it.
/// Zero would make programs ask for every connection.
pub(super) const HOSTS_TTL_S: u32 = 10;

/// Timers of a SOA record that no secondary will ever read (RFC 6303 section 3: "chosen arbitrarily").
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 1_200;
const EXPIRE_S: i32 = 604_800;

/// The types and data of one name.
type Sets = Vec<Arc<RecordSet>>;

/// Names that the zone has no records for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// They have the records of the zone's own name.
    Alike,
    /// They exist without data.
    NoData,
    /// They do not exist, unless something below them does (RFC 8020).
    NotThere,
}

/// A zone and all its records.
#[derive(Debug)]
pub(super) struct Zone {
    origin: LowerName,
    soa: Arc<RecordSet>,
    ns: Arc<RecordSet>,
    /// A handful at most: a walk finds a name as fast as a map would.
    names: Vec<(LowerName, Sets)>,
    others: Others,
}

impl Zone {
    /// A zone that is built in; `None` if its name were none.
    pub(super) fn built_in(zone: BuiltIn) -> Option<Self> {
        let name = zone.name.parse().ok()?;
        let mut built = Self::bare(&name, BUILT_IN_TTL_S)?;
        let origin = built.origin.clone();
        match zone.shape() {
            Shape::Loopback => {
                let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(u128::to_be_bytes(1))];
                let sets = address_sets(&origin, BUILT_IN_TTL_S, &loopback);
                built.names.push((origin, sets));
                built.others = Others::Alike;
            }
            Shape::Nothing => {}
            Shape::NoData => built.others = Others::NoData,
            Shape::Empty => {
                let own = vec![Arc::clone(&built.soa), Arc::clone(&built.ns)];
                built.names.push((origin, own));
                for pointer in LOOPBACK_POINTERS {
                    built.add_pointer(&pointer.parse().ok()?, &"localhost".parse().ok()?);
                }
            }
        }
        Some(built)
    }

    /// One name of the hosts file as a zone of its own.
    pub(super) fn of_host(name: &NameBuf, addresses: &[IpAddr]) -> Option<Self> {
        let mut zone = Self::bare(name, HOSTS_TTL_S)?;
        let sets = address_sets(&zone.origin, HOSTS_TTL_S, addresses);
        zone.names.push((zone.origin.clone(), sets));
        Some(zone)
    }

    /// The name of an address of the hosts file as a zone of its own.
    pub(super) fn of_pointer(name: &NameBuf, host: &NameBuf) -> Option<Self> {
        let mut zone = Self::bare(name, HOSTS_TTL_S)?;
        let set = set_of(zone.origin.clone().into(), HOSTS_TTL_S, RData::PTR(PTR(to_name(host)?)));
        zone.names.push((zone.origin.clone(), vec![set]));
        Some(zone)
    }

    /// A zone in which every name exists and has no data.
    pub(super) fn without_data(name: &NameBuf) -> Option<Self> {
        let mut zone = Self::bare(name, HOSTS_TTL_S)?;
        zone.others = Others::NoData;
        Some(zone)
    }

    /// A zone without names.
    fn bare(name: &NameBuf, ttl_s: u32) -> Option<Self> {
        let origin = to_name(name)?;
        let contact = to_name(&"nobody.invalid".parse().ok()?)?;
        let soa = SOA::new(origin.clone(), contact, 1, REFRESH_S, RETRY_S, EXPIRE_S, ttl_s);
        Some(Self {
            soa: set_of(origin.clone(), ttl_s, RData::SOA(soa)),
            ns: set_of(origin.clone(), ttl_s, RData::NS(NS(origin.clone()))),
            origin: LowerName::new(&origin),
            names: Vec::new(),
            others: Others::NotThere,
        })
    }

    /// Adds a pointer if it belongs here, beside what its name has already.
    fn add_pointer(&mut self, name: &NameBuf, host: &NameBuf) {
        let (Some(owner), Some(host)) = (to_name(name), to_name(host)) else {
            return;
        };
        let lower = LowerName::new(&owner);
        if !self.origin.zone_of(&lower) {
            return;
        }
        let set = set_of(owner, BUILT_IN_TTL_S, RData::PTR(PTR(host)));
        match self.names.iter_mut().find(|(known, _)| *known == lower) {
            Some((_, sets)) => sets.push(set),
            None => self.names.push((lower, vec![set])),
        }
    }

    /// What a client gets for this question.
    fn answer(&self, name: &LowerName, rtype: RecordType, options: LookupOptions) -> Result<AuthLookup, LookupError> {
        let owner = match self.others {
            Others::Alike => &self.origin,
            Others::NoData | Others::NotThere => name,
        };
        let Some((_, sets)) = self.names.iter().find(|(known, _)| known == owner) else {
            let is_there = self.others == Others::NoData || self.names.iter().any(|(below, _)| name.zone_of(below));
            return Err(if is_there {
                LookupError::for_name_exists()
            } else {
                LookupError::from(ResponseCode::NXDomain)
            });
        };
        let wanted = |set: &&Arc<RecordSet>| rtype == RecordType::ANY || set.record_type() == rtype;
        let found: Sets = sets.iter().filter(wanted).map(|set| owned_by(name, set)).collect();
        if found.is_empty() {
            return Err(LookupError::for_name_exists());
        }
        Ok(AuthLookup::answers(LookupRecords::many(options, found), None))
    }
}

#[async_trait]
impl ZoneHandler for Zone {
    fn zone_type(&self) -> ZoneType {
        ZoneType::Primary
    }

    fn axfr_policy(&self) -> AxfrPolicy {
        AxfrPolicy::Deny
    }

    fn origin(&self) -> &LowerName {
        &self.origin
    }

    /// The catalog's own questions: SOA for a denial, NS beside a SOA answer. They are answered whether or not clients
    /// can see the records.
    async fn lookup(
        &self,
        _name: &LowerName,
        rtype: RecordType,
        _request_info: Option<&RequestInfo<'_>>,
        lookup_options: LookupOptions,
    ) -> LookupControlFlow<AuthLookup> {
        let set = if rtype == RecordType::SOA { &self.soa } else { &self.ns };
        let records = LookupRecords::new(lookup_options, Arc::clone(set));
        LookupControlFlow::Break(Ok(AuthLookup::answers(records, None)))
    }

    /// A client's question.
    async fn search(
        &self,
        request: &Request,
        lookup_options: LookupOptions,
    ) -> (LookupControlFlow<AuthLookup>, Option<TSigResponseContext>) {
        let answer = request
            .request_info()
            .and_then(|info| self.answer(info.query.name(), info.query.query_type(), lookup_options));
        (LookupControlFlow::Break(answer), None)
    }

    /// Nothing here is signed.
    async fn nsec_records(&self, _name: &LowerName, _lookup_options: LookupOptions) -> LookupControlFlow<AuthLookup> {
        LookupControlFlow::Break(Ok(AuthLookup::default()))
    }
}

/// The set as it is, or as it is for another owner.
fn owned_by(name: &LowerName, set: &Arc<RecordSet>) -> Arc<RecordSet> {
    if name == &LowerName::new(set.name()) {
        return Arc::clone(set);
    }
    let mut own = RecordSet::with_ttl(name.clone().into(), set.record_type(), set.ttl());
    for record in set.records_without_rrsigs() {
        own.add_rdata(record.data.clone());
    }
    Arc::new(own)
}

/// A and AAAA of these addresses, in their order.
fn address_sets(origin: &LowerName, ttl_s: u32, addresses: &[IpAddr]) -> Sets {
    let mut v4 = RecordSet::with_ttl(origin.clone().into(), RecordType::A, ttl_s);
    let mut v6 = RecordSet::with_ttl(origin.clone().into(), RecordType::AAAA, ttl_s);
    for address in addresses {
        match address {
            IpAddr::V4(ip) => v4.add_rdata(RData::A(A(*ip))),
            IpAddr::V6(ip) => v6.add_rdata(RData::AAAA(AAAA(*ip))),
        };
    }
    [v4, v6]
        .into_iter()
        .filter(|set| !set.is_empty())
        .map(Arc::new)
        .collect()
}

/// A set of one record.
fn set_of(owner: Name, ttl_s: u32, data: RData) -> Arc<RecordSet> {
    Arc::new(RecordSet::from(Record::from_rdata(owner, ttl_s, data)))
}

/// The name as hickory holds it; every name of ours can be held so.
fn to_name(name: &NameBuf) -> Option<Name> {
    Name::from_labels(name.labels()).ok()
}
