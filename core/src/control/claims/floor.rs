//! Reports never leave fewer than two operators in place: which claims move a place, and which may not.

use std::collections::BTreeSet;

use super::super::table::Grounds;
use crate::routes::{Place, PlaceWhy};
use crate::time::Time;
use crate::topology::{ClassId, EndpointId, OperatorId};

/// Operators that reports leave in place in each class, if so many are.
const OPERATORS_MIN: usize = 2;

/// Which of these claims move their endpoint's place: each the begin of its first failure and its endpoint. They are
/// applied in this order, and one that would leave fewer than two operators in place is not. The result is by
/// [`EndpointId`].
pub(super) fn applied(grounds: &Grounds<'_>, mut claims: Vec<(Time, EndpointId)>) -> Vec<Option<Time>> {
    claims.sort_unstable();
    let mut reported: Vec<Option<Time>> = vec![None; grounds.topology.endpoints.len()];
    for (first_failure, id) in claims {
        let Some(class) = grounds.topology.provider_of(id).map(|provider| provider.class) else {
            continue;
        };
        let before = in_place(grounds, class, &reported).len();
        if let Some(own) = reported.get_mut(usize::from(id.0)) {
            *own = Some(first_failure);
        }
        let after = in_place(grounds, class, &reported).len();
        if after < OPERATORS_MIN
            && after < before
            && let Some(own) = reported.get_mut(usize::from(id.0))
        {
            *own = None;
        }
    }
    reported
}

/// Operators of a class with a provider of the public group that would be asked at an endpoint in its normal place.
fn in_place(grounds: &Grounds<'_>, class: ClassId, reported: &[Option<Time>]) -> BTreeSet<OperatorId> {
    let of_class = grounds
        .topology
        .providers
        .iter()
        .filter(|p| p.class == class && p.is_public);
    let normal = of_class.filter(|provider| {
        let whys = provider.endpoints.iter().map(|id| grounds.why(*id, reported));
        whys.map(PlaceWhy::settled)
            .min()
            .is_some_and(|best| best.place() == Place::Normal)
    });
    normal.map(|provider| provider.operator).collect()
}
