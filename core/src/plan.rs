//! Which endpoints a query is sent to, in which order, and why.
//!
//! A pure function of the routes, what queries have cost so far, and the question's number: first the provider
//! by strategy, then its transport in listed order (already settled in [`Routes::choices`]). Backups are as
//! unlike the first choice as the group allows, because what fails together is no backup. The routes are those of one
//! group, and a plan names nobody else.

#[cfg(test)]
mod tests;

use crate::Strategy;
use crate::dice::Purpose;
use crate::health::RAMP_US;
use crate::health::domains::DomainKey;
use crate::routes::{Choice, PlaceWhy, Routes};
use crate::time::{MS, Time};
use crate::topology::{EndpointId, Provider, ProviderId};
use crate::usage::Usage;

/// Most providers that learn one name.
pub const PROVIDERS_MAX: usize = 3;
/// Most endpoints in a plan: three providers with a second transport each, and both once more.
pub const STEPS_MAX: usize = 8;
/// One query in this many asks a provider that the strategy would not.
const EXPLORE_ONE_IN: u64 = 20;
/// A median within this of the best is as good as the best, or within half of it.
const NEAR_US: u64 = 10 * MS;

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Counts up with every query; what randomness hangs on.
    pub number: u64,
    /// The registrable domain.
    pub domain: DomainKey,
}

/// Why an endpoint is in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// At random among those nearly as fast as the best.
    Balanced,
    /// The lowest median.
    Fastest,
    /// The domain's own provider.
    Shard,
    /// To learn whether it became better.
    Explored,
    /// Its turn, since nothing is up.
    Rotation,
    /// Next in line should the ones before it fail.
    Backup,
    /// Another transport of a provider in the plan.
    OtherTransport,
    /// Once more, since there is nothing else.
    Again,
}

/// Why a provider is not the first choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// Its endpoint stands behind others.
    Place(PlaceWhy),
    /// A cold standby while tier 1 answers.
    Standby,
    /// The domain failed there within the last minute.
    Domain,
    /// Over its share of first choices.
    Share,
    /// Over its rate.
    Rate,
    /// Its share still grows after a recovery.
    Ramp,
    /// Slower than the best by more than the strategy takes.
    Slower,
    /// The dice fell otherwise.
    Dice,
    /// Of another class than the first choice.
    Class,
}

/// One endpoint of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whom to ask.
    pub endpoint: EndpointId,
    /// Whose it is.
    pub provider: ProviderId,
    /// Why it is here.
    pub chosen: Chosen,
}

/// Ordered endpoints for one query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order; never more than [`STEPS_MAX`].
    pub steps: Vec<Step>,
    /// The first two are asked at once: the first is suspect or nothing is up.
    pub pair: bool,
    /// The first choice is over its share or rate: nobody else is left, and an answer is worth more than a cap.
    pub cap_ignored: bool,
}

/// One candidate for the first choice or a backup; compared field by field.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BackupRank {
    /// Of a pair, both asked at once, nothing is usable; then only another operator is a second chance.
    pairs_operator: bool,
    /// Another provider answers this domain where this one fails.
    avoided: bool,
    /// Usable before hurt siblings, suspects, lossy and down ones.
    place: PlaceWhy,
    /// Tier 1 before standbys.
    tier: u8,
    /// Who fails together with the first choice comes last.
    same_operator: bool,
    /// So does who shares its network.
    same_asn: bool,
    /// And who shares its jurisdiction, where told.
    same_jurisdiction: bool,
    /// A full rate cap.
    over_rate: bool,
    /// More than half slower than the best.
    slow: bool,
    /// Spreads what is equal otherwise.
    dice: u64,
}

/// Plans one query. `note` hears why each provider was passed over as first choice.
pub fn plan(
    routes: &Routes,
    usage: &mut Usage,
    question: Question,
    now: Time,
    note: &mut impl FnMut(ProviderId, Skipped),
) -> Plan {
    let mut plan = Plan::default();
    let Some((first, chosen)) = first_choice(routes, usage, question, now, &mut plan.cap_ignored, note) else {
        return plan;
    };
    plan.steps.reserve(STEPS_MAX);
    plan.pair = routes.nothing_up || first.why >= PlaceWhy::Suspect;
    plan.steps.push(Step {
        endpoint: first.endpoint,
        provider: first.provider,
        chosen,
    });
    add_backups(routes, usage, question, now, first, &mut plan, note);
    add_second_transports(routes, &mut plan);
    plan
}

/// What a first choice should be.
type Wish<'a> = &'a dyn Fn(&Choice, &mut Usage) -> bool;

/// The provider asked first.
fn first_choice<'r>(
    routes: &'r Routes,
    usage: &mut Usage,
    question: Question,
    now: Time,
    cap_ignored: &mut bool,
    note: &mut impl FnMut(ProviderId, Skipped),
) -> Option<(&'r Choice, Chosen)> {
    if routes.nothing_up {
        let count = u64::try_from(routes.choices.len()).unwrap_or(0);
        let turn = question.number.checked_rem(count)?;
        let choice = routes.choices.get(usize::try_from(turn).ok()?)?;
        return Some((choice, Chosen::Rotation));
    }
    let tier = |choice: &Choice| routes.topology.provider(choice.provider).map_or(u8::MAX, |p| p.tier);
    let standing = |choice: &Choice| (choice.why.settled(), tier(choice));
    let best = routes.choices.iter().map(standing).min()?;
    let mut pool: Vec<&Choice> = Vec::with_capacity(routes.choices.len());
    for choice in &routes.choices {
        if standing(choice) == best {
            pool.push(choice);
        } else if choice.why.settled() > best.0 {
            note(choice.provider, Skipped::Place(choice.why));
        } else {
            note(choice.provider, Skipped::Standby);
        }
    }
    // Each wish is dropped when nobody would be left: an answer is worth more than a cap.
    let wishes: [(Skipped, Wish<'_>); 4] = [
        (Skipped::Domain, &|c, _| {
            !routes.avoids(question.domain, c.endpoint, now)
        }),
        (Skipped::Ramp, &|c, _| has_ramped(routes, question, c, now)),
        (Skipped::Share, &|c, usage| {
            let cap = routes.topology.provider(c.provider).and_then(|p| p.max_share_permille);
            let mut members = routes.topology.members(routes.group).map(|(id, _)| id);
            cap.is_none_or(|cap| !usage.is_over_share(c.provider, cap, &mut members, now))
        }),
        (Skipped::Rate, &|c, usage| usage.fits(c.provider, c.endpoint, now)),
    ];
    for (reason, wish) in wishes {
        if pool.iter().any(|choice| wish(choice, usage)) {
            pool.retain(|choice| {
                let is_kept = wish(choice, usage);
                if !is_kept {
                    note(choice.provider, reason);
                }
                is_kept
            });
        } else {
            *cap_ignored |= matches!(reason, Skipped::Share | Skipped::Rate);
        }
    }
    if *cap_ignored {
        usage.note_cap_ignored(now);
    }
    by_strategy(routes, question, &pool, note)
}

/// Whether the growing share after a recovery takes this query.
fn has_ramped(routes: &Routes, question: Question, choice: &Choice, now: Time) -> bool {
    choice.ramp_since.is_none_or(|since| {
        let item = u64::from(choice.provider.0);
        routes.dice.below(RAMP_US, Purpose::Ramp, question.number, item) < now.since(since)
    })
}

/// Picks from providers of equal standing.
fn by_strategy<'r>(
    routes: &'r Routes,
    question: Question,
    pool: &[&'r Choice],
    note: &mut impl FnMut(ProviderId, Skipped),
) -> Option<(&'r Choice, Chosen)> {
    let near = near_us(pool.iter().filter_map(|choice| choice.p50_us).min());
    let is_near = |choice: &Choice| choice.p50_us.is_none_or(|p50| p50 <= near);
    let (chosen, why): (&'r Choice, Chosen) = match routes.settings.strategy {
        Strategy::Balanced => {
            let fast = pool.iter().copied().filter(|c| is_near(c));
            let slow = pool.iter().copied().filter(|c| !is_near(c));
            explored(routes, question, slow)
                .or_else(|| Some((draw(routes, question, Purpose::FirstChoice, fast)?, Chosen::Balanced)))?
        }
        Strategy::Fastest => {
            let best = pool.iter().copied().min_by_key(|choice| choice.p50_us.unwrap_or(0))?;
            let others = pool.iter().copied().filter(|c| *c != best);
            explored(routes, question, others).unwrap_or((best, Chosen::Fastest))
        }
        // Rendezvous hashing: when a provider leaves, only its own domains move.
        Strategy::Shard => {
            let best = pool.iter().copied().max_by_key(|choice| {
                routes
                    .dice
                    .roll(Purpose::Shard, question.domain, u64::from(choice.provider.0))
            })?;
            (best, Chosen::Shard)
        }
    };
    for choice in pool.iter().filter(|choice| **choice != chosen) {
        let slower = !is_near(choice) && routes.settings.strategy != Strategy::Shard;
        note(choice.provider, if slower { Skipped::Slower } else { Skipped::Dice });
    }
    Some((chosen, why))
}

/// The slowest median that is as good as the best.
fn near_us(best: Option<u64>) -> u64 {
    best.map_or(u64::MAX, |best| best.saturating_add(NEAR_US.max(best >> 1)))
}

/// One query in twenty goes to one of `others`, instead of and not in addition to the first choice.
fn explored<'r>(
    routes: &Routes,
    question: Question,
    others: impl Iterator<Item = &'r Choice> + Clone,
) -> Option<(&'r Choice, Chosen)> {
    if routes.dice.below(EXPLORE_ONE_IN, Purpose::Explore, question.number, 0) != 0 {
        return None;
    }
    Some((draw(routes, question, Purpose::ExploreWhom, others)?, Chosen::Explored))
}

/// One of `choices` at random.
fn draw<'r>(
    routes: &Routes,
    question: Question,
    purpose: Purpose,
    mut choices: impl Iterator<Item = &'r Choice> + Clone,
) -> Option<&'r Choice> {
    let count = u64::try_from(choices.clone().count()).ok()?;
    let index = routes.dice.below(count, purpose, question.number, 0);
    choices.nth(usize::try_from(index).ok()?)
}

/// Up to two more providers of the same class, as unlike the first as can be had.
fn add_backups(
    routes: &Routes,
    usage: &mut Usage,
    question: Question,
    now: Time,
    first: &Choice,
    plan: &mut Plan,
    note: &mut impl FnMut(ProviderId, Skipped),
) {
    let Some(own) = routes.topology.provider(first.provider) else {
        return;
    };
    let near = near_us(routes.choices.iter().filter_map(|choice| choice.p50_us).min());
    let mut ranked: Vec<(BackupRank, &Choice)> = Vec::with_capacity(routes.choices.len());
    for choice in &routes.choices {
        let Some(provider) = routes.topology.provider(choice.provider) else {
            continue;
        };
        if choice.provider == first.provider {
            continue;
        }
        if provider.class != own.class {
            note(choice.provider, Skipped::Class);
            continue;
        }
        ranked.push((
            BackupRank {
                pairs_operator: plan.pair && provider.operator == own.operator,
                avoided: routes.avoids(question.domain, choice.endpoint, now),
                place: choice.why.settled(),
                tier: provider.tier,
                same_operator: provider.operator == own.operator,
                same_asn: provider.asn.is_some() && provider.asn == own.asn,
                same_jurisdiction: shares_jurisdiction(provider, own),
                over_rate: !usage.fits(choice.provider, choice.endpoint, now),
                slow: choice.p50_us.is_some_and(|p50| p50 > near),
                dice: routes
                    .dice
                    .roll(Purpose::Backup, question.number, u64::from(choice.provider.0)),
            },
            choice,
        ));
    }
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, choice) in ranked.into_iter().take(PROVIDERS_MAX.saturating_sub(1)) {
        plan.steps.push(Step {
            endpoint: choice.endpoint,
            provider: choice.provider,
            chosen: Chosen::Backup,
        });
    }
}

/// Whether both are known to be of one jurisdiction.
fn shares_jurisdiction(a: &Provider, b: &Provider) -> bool {
    a.jurisdiction.is_some() && a.jurisdiction == b.jurisdiction
}

/// Other transports of the providers in the plan, and the first two once more: a lost datagram to the only
/// provider deserves a second one.
fn add_second_transports(routes: &Routes, plan: &mut Plan) {
    let planned = plan.steps.len();
    for index in 0..planned {
        let Some(step) = plan.steps.get(index).copied() else {
            continue;
        };
        let Some(provider) = routes.topology.provider(step.provider) else {
            continue;
        };
        // Of a name that nobody has resolved yet, whichever family it turns out to have.
        let own = routes.endpoint(step.endpoint);
        let is_unresolved = own.is_some_and(|route| route.why == PlaceWhy::Unresolved);
        let other = provider
            .endpoints
            .iter()
            .filter(|endpoint| **endpoint != step.endpoint)
            .filter_map(|endpoint| Some((routes.endpoint(*endpoint)?.why, *endpoint)))
            .filter(|(why, _)| {
                (why.has_way() && *why != PlaceWhy::Throttled) || (is_unresolved && *why == PlaceWhy::Unresolved)
            })
            .min_by_key(|(why, endpoint)| (*why, likeness(routes, index, step.endpoint, *endpoint)));
        if let Some((_, endpoint)) = other {
            plan.steps.push(Step {
                endpoint,
                provider: step.provider,
                chosen: Chosen::OtherTransport,
            });
        }
    }
    add_cleartext(routes, plan);
    for index in 0..STEPS_MAX.saturating_sub(plan.steps.len()).min(2).min(planned) {
        if let Some(step) = plan.steps.get(index).copied() {
            plan.steps.push(Step {
                chosen: Chosen::Again,
                ..step
            });
        }
    }
}

/// How little another endpoint of the provider at this place of the plan is a backup; what is equally good stays in listed
/// order. What is blocked is a class of transport or an address family, and which one is not known yet: of three
/// providers one backup is of another path altogether, one of another class, one of another family.
fn likeness(routes: &Routes, index: usize, first: EndpointId, other: EndpointId) -> (bool, u8) {
    let (Some(first), Some(other)) = (routes.topology.endpoint(first), routes.topology.endpoint(other)) else {
        return (true, u8::MAX);
    };
    let (own, path) = (first.path(), other.path());
    let is_cleartext = first.transport.is_encrypted() && !other.transport.is_encrypted();
    let [neither, class, family] = match index {
        0 => [0, 1, 2],
        1 => [1, 0, 2],
        _ => [1, 2, 0],
    };
    let rank = match (own.class != path.class, own.family != path.family) {
        (true, true) => neither,
        (true, false) => class,
        (false, true) => family,
        (false, false) => 3,
    };
    (is_cleartext, rank)
}

/// What may be asked in the clear should everything encrypted fail while this query waits: first at the providers of
/// the plan, then at those of its class that have nothing else.
fn add_cleartext(routes: &Routes, plan: &mut Plan) {
    let why = |endpoint| routes.endpoint(endpoint).map(|route| route.why);
    if !routes
        .topology
        .endpoint_ids()
        .any(|id| why(id) == Some(PlaceWhy::Cleartext))
    {
        return;
    }
    let class_of = |id: ProviderId| routes.topology.provider(id).map(|p| p.class);
    let members = routes.topology.members(routes.group).map(|(id, _)| id);
    let Some(class) = plan.steps.first().map(|step| class_of(step.provider)) else {
        return;
    };
    let mut providers: Vec<ProviderId> = Vec::with_capacity(routes.topology.providers.len());
    let planned = plan.steps.iter().map(|step| step.provider);
    for id in planned.chain(members) {
        if !providers.contains(&id) && class_of(id) == class {
            providers.push(id);
        }
    }
    for id in providers {
        let Some(provider) = routes.topology.provider(id) else {
            continue;
        };
        let barred = |endpoint: &EndpointId| {
            why(*endpoint) == Some(PlaceWhy::Cleartext) && plan.steps.iter().all(|step| step.endpoint != *endpoint)
        };
        let endpoint = provider.endpoints.iter().copied().find(barred);
        if let Some(endpoint) = endpoint.filter(|_| plan.steps.len() < STEPS_MAX) {
            plan.steps.push(Step {
                endpoint,
                provider: id,
                chosen: Chosen::OtherTransport,
            });
        }
    }
}
