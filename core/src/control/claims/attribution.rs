//! Whose trouble it is: told only where somebody looks from another place.

use super::statement::Statement;
use crate::health::state::State;
use crate::report::{Circle, SiteKey};
use crate::verdict::Attribution;

/// Whose trouble an endpoint is that is in this state here, by what others say of it. A view from elsewhere is one of
/// another site or operator.
pub(super) fn attribute<'a>(
    own: State,
    site: Option<SiteKey>,
    statements: impl Iterator<Item = &'a Statement>,
) -> Attribution {
    let (mut any, mut any_down, mut up_elsewhere, mut down_elsewhere) = (false, false, false, false);
    for statement in statements.filter(|s| s.is_up() || s.state == State::Down) {
        let is_down = statement.state == State::Down;
        let elsewhere = statement.circle != Circle::Own || site != Some(statement.site);
        any = true;
        any_down |= is_down;
        down_elsewhere |= elsewhere && is_down;
        up_elsewhere |= elsewhere && !is_down;
    }
    let is_failing = !own.is_usable();
    match (down_elsewhere, up_elsewhere) {
        _ if !is_failing && !any_down => Attribution::None,
        _ if !any => Attribution::NoReports,
        (false, false) => Attribution::OneSite,
        _ if matches!(own, State::Up | State::Probation) => Attribution::OtherPath,
        (false, true) => Attribution::MyPath,
        (true, false) => Attribution::TheirOutage,
        (true, true) => Attribution::Mixed,
    }
}
