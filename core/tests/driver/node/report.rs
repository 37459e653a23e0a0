//! What a test that goes wrong says of a node.

use super::Node;
use crate::env::Env;

impl Node {
    /// Ends the test, telling how to see it again.
    pub(crate) fn fail(&self, message: &str, env: &Env) -> ! {
        env.fail(message, &self.state());
    }

    /// How its endpoints stand.
    pub(crate) fn state(&self) -> String {
        let mut text = format!("node {} of {:?}\n", self.who.node, self.config);
        for (id, route) in self.routes().endpoints.iter().enumerate() {
            text.push_str(&format!(
                "endpoint {id}: {} ({}) place {} since {}\n",
                route.state,
                route.cause,
                route.why.word(),
                route.since
            ));
        }
        text
    }
}
