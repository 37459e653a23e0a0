//! Gossip: how a snapshot reaches those that nobody pushed it to. Speed only, nothing depends on it.
//!
//! One set of parameters for all sizes. The envelope names nobody, the snapshot inside is signed; a message is known by
//! its content and passed on only after it was taken here.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use detour_core::report::ClusterKey;
use detour_wire::keys;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, Message,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode,
    WhitelistSubscriptionFilter,
};

/// Only our topic can be subscribed to.
pub(crate) type Gossip = Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// Apart from everybody else's gossip.
const PROTOCOL_PREFIX: &str = "/detour/gossip";
/// A snapshot has at most 999 bytes; the rest is envelope.
const MESSAGE_MAX: usize = 2_048;
/// The library (0.50.1) holds this against everything that it has read so far, not against one message: up to 8 KiB at
/// once, and what was left of the read before. With [`MESSAGE_MAX`] in its place three snapshots in a row would end the
/// stream, and five such ends all gossip with that peer.
const READ_MAX: usize = 64 * 1_024;
/// Lists of message ids, 22 bytes each with their envelope: twice what is sent.
const CONTROL_MAX: usize = 2 * 22 * IDS_MAX;
/// Ids in one list: all snapshots of a heartbeat in which 256 nodes have something to say.
const IDS_MAX: usize = 256;
/// Messages in one packet of gossip; nodes write one.
const MESSAGES_MAX: usize = 2;
/// Messages waiting for one peer; what is older than a second or two is worth nothing.
const QUEUE_MAX: usize = 256;
/// Longer than any snapshot is fresh, so that a replay dies here.
const REMEMBERED: Duration = Duration::from_secs(300);
/// At this score a peer is no longer gossiped with, published to, or listened to. Own signatures decide what is true,
/// so the score is there against floods of garbage only: about one, two, and four invalid messages in a short time.
const THRESHOLDS: PeerScoreThresholds = PeerScoreThresholds {
    gossip_threshold: -500.0,
    publish_threshold: -1_000.0,
    graylist_threshold: -2_500.0,
    accept_px_threshold: 1_000.0,
    opportunistic_graft_threshold: 3.5,
};

/// Gossip cannot be set up: a mistake of this build.
#[derive(Debug, thiserror::Error)]
#[error("gossip cannot be set up: {0}")]
pub(crate) struct GossipError(String);

/// Where the snapshots of this cluster are published.
pub(crate) fn topic(cluster: ClusterKey) -> IdentTopic {
    let hex: String = cluster.0.iter().map(|byte| format!("{byte:02x}")).collect();
    IdentTopic::new(format!("detour/{hex}/snap/1"))
}

/// Gossip of one cluster, subscribed.
///
/// # Errors
/// When the parameters contradict each other, which a test rules out.
pub(crate) fn new(cluster: ClusterKey) -> Result<Gossip, GossipError> {
    let topic = topic(cluster);
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(HashSet::from([topic.hash()])),
        max_subscribed_topics: 1,
        max_subscriptions_per_request: 4,
    };
    let config = config(topic.hash()).map_err(GossipError)?;
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .map_err(|error| GossipError(error.to_owned()))?;
    gossip
        .with_peer_score(scores(topic.hash()), THRESHOLDS)
        .map_err(GossipError)?;
    gossip
        .subscribe(&topic)
        .map_err(|error| GossipError(error.to_string()))?;
    Ok(gossip)
}

fn config(topic: TopicHash) -> Result<Config, String> {
    ConfigBuilder::default()
        .protocol_id_prefix(PROTOCOL_PREFIX)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| MessageId::new(&keys::message_id(&message.data)))
        .max_transmit_size(READ_MAX)
        .max_transmit_size_for_topic(MESSAGE_MAX, topic)
        .max_control_messages_sent(IDS_MAX)
        .max_control_message_size(CONTROL_MAX)
        .max_publish_messages(MESSAGES_MAX)
        .mesh_n(6)
        .mesh_n_low(4)
        .mesh_n_high(12)
        .mesh_outbound_min(2)
        .flood_publish(true)
        .heartbeat_interval(Duration::from_secs(1))
        // The library's five seconds would leave a small cluster without a mesh for as long.
        .heartbeat_initial_delay(Duration::from_millis(100))
        .history_length(10)
        .history_gossip(5)
        .duplicate_cache_time(REMEMBERED)
        .connection_handler_queue_len(QUEUE_MAX)
        .publish_queue_duration(Duration::from_secs(2))
        .forward_queue_duration(Duration::from_secs(1))
        .build()
        .map_err(|error| error.to_string())
}

/// Without scores slow peers are never pruned and invalid messages cost nothing; the library's own values punish every
/// peer of a quiet topic, and every node behind one address (research: Lotus, Forest and Lighthouse run these, changed
/// for a topic with few messages). Everybody here is on a list by key: addresses say nothing, so they weigh nothing.
fn scores(topic: TopicHash) -> PeerScoreParams {
    let snapshots = TopicScoreParams {
        topic_weight: 0.1,
        time_in_mesh_weight: 0.000_27,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 1.0,
        first_message_deliveries_weight: 0.5,
        // To a hundredth in ten minutes.
        first_message_deliveries_decay: 0.992_354,
        first_message_deliveries_cap: 100.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Squared, times the topic's weight: five of them graylist.
        invalid_message_deliveries_weight: -1_000.0,
        // To a hundredth in an hour.
        invalid_message_deliveries_decay: 0.998_722,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: HashMap::from([(topic, snapshots)]),
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: 0.998_722,
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: Duration::from_secs(600),
        slow_peer_weight: -10.0,
        slow_peer_threshold: 0.0,
        slow_peer_decay: 0.1,
        ..PeerScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_agree_with_each_other() {
        let cluster = ClusterKey([0xab; 8]);
        assert_eq!(topic(cluster).hash().as_str(), "detour/abababababababab/snap/1");
        let gossip = new(cluster).unwrap();
        assert_eq!(gossip.topics().count(), 1);
    }

    #[test]
    fn a_message_is_known_by_its_content() {
        let config = config(topic(ClusterKey([0; 8])).hash()).unwrap();
        let id = |data: &[u8]| {
            config.message_id(&Message {
                source: None,
                data: data.to_vec(),
                sequence_number: None,
                topic: topic(ClusterKey([0; 8])).hash(),
            })
        };
        assert_eq!(id(b"a"), id(b"a"));
        assert_ne!(id(b"a"), id(b"b"));
    }
}
