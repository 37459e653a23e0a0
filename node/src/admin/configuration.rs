//! What there is to say about the configuration: where it came from, whether it is the one it should be, what became of
//! the last reload, and the names the core has but numbers for. Written by whoever loads, read by every answer.

use std::collections::BTreeMap;
use std::fmt;

use detour_core::Time;
use parking_lot::Mutex;

use super::words::age_text;
use crate::config::{self, Config, Source};
use crate::given::Given;

/// What a provider is called where the core has but numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    /// Who runs it.
    pub(super) operator: String,
    /// What it does to answers: `none/validating`.
    pub(super) class: String,
}

/// What is wrong with a file: its first mistake, and how many more it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistakes {
    /// With file and line.
    pub(crate) first: String,
    /// Beside the first.
    pub(crate) more: usize,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first)?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

/// Reloads so far, and how the last one ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reloads {
    /// Files that were applied.
    pub(super) applied: u64,
    /// Files that changed nothing because of mistakes.
    pub(super) rejected: u64,
    /// When the last one was.
    pub(super) last: Option<Time>,
    /// What was wrong with it, if it was the last that was rejected.
    pub(super) mistakes: Option<Mistakes>,
}

/// All there is to say at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The file, or that there is none.
    pub(super) source: String,
    /// Since when it is in force.
    pub(super) since: Time,
    /// What is wrong with the file in whose place the copy of the last good one runs.
    pub(super) degraded: Option<Mistakes>,
    pub(super) reloads: Reloads,
    /// Keys whose new values wait for a restart.
    pub(super) restart: Vec<&'static str>,
    /// What the network gave; `None`: nobody looks.
    pub(super) network: Option<Given>,
    /// By the name of the provider.
    labels: BTreeMap<String, Label>,
}

/// The notes, shared by those who write and those who read.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// Held for a copy or a change.
    told: Mutex<Told>,
}

impl Configuration {
    /// A start with this configuration; `degraded`: in the place of a file with these mistakes.
    #[must_use]
    pub(crate) fn new(config: &Config, degraded: Option<Mistakes>, now: Time) -> Self {
        let told = Told {
            source: match &config.source {
                Source::Embedded => "(embedded default)".to_owned(),
                Source::File(path) => path.display().to_string(),
            },
            since: now,
            degraded,
            reloads: Reloads::default(),
            restart: Vec::new(),
            network: None,
            labels: labels(config),
        };
        Self { told: Mutex::new(told) }
    }

    /// A reload was applied, but for these keys.
    pub(crate) fn note_applied(&self, config: &Config, restart: Vec<&'static str>, now: Time) {
        let mut told = self.told.lock();
        told.since = now;
        told.degraded = None;
        told.restart = restart;
        told.labels = labels(config);
        told.reloads.applied = told.reloads.applied.saturating_add(1);
        told.reloads.last = Some(now);
        told.reloads.mistakes = None;
    }

    /// The network gives this, if anybody looks under this configuration.
    pub(crate) fn note_given(&self, config: &Config, given: &Given) {
        self.told.lock().network = config.network.enabled.then(|| given.clone());
    }

    /// A reload changed nothing, because of these mistakes.
    pub(crate) fn note_rejected(&self, mistakes: Mistakes, now: Time) {
        let mut told = self.told.lock();
        if told.degraded.is_some() {
            told.degraded = Some(mistakes.clone());
        }
        told.reloads.rejected = told.reloads.rejected.saturating_add(1);
        told.reloads.last = Some(now);
        told.reloads.mistakes = Some(mistakes);
    }

    /// All of it as it is.
    #[must_use]
    pub(super) fn told(&self) -> Told {
        self.told.lock().clone()
    }
}

impl Told {
    /// The names of a provider.
    #[must_use]
    pub(super) fn label(&self, provider: &str) -> Option<&Label> {
        self.labels.get(provider)
    }

    /// What is wrong with it, worst first, in words.
    #[must_use]
    pub(super) fn troubles(&self, now: Time) -> Vec<String> {
        let mut troubles = Vec::new();
        match (&self.degraded, &self.reloads) {
            (Some(mistakes), _) => {
                troubles.push(format!("runs on the copy of the last good configuration: {mistakes}"))
            }
            (
                None,
                Reloads {
                    mistakes: Some(mistakes),
                    last: Some(last),
                    ..
                },
            ) => {
                let age = age_text(now.since(*last));
                troubles.push(format!("the reload {age} ago changed nothing: {mistakes}"));
            }
            (None, _) => {}
        }
        match self.restart.as_slice() {
            [] => {}
            [one] => troubles.push(format!("{one} waits for a restart")),
            more => troubles.push(format!("{} wait for a restart", more.join(", "))),
        }
        troubles
    }
}

fn labels(config: &Config) -> BTreeMap<String, Label> {
    let labels = config.providers.iter().map(|provider| {
        let label = Label {
            operator: provider.operator.clone(),
            class: config::class_text(provider),
        };
        (provider.name.clone(), label)
    });
    labels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(first: &str, more: usize) -> Mistakes {
        Mistakes {
            first: first.to_owned(),
            more,
        }
    }

    #[test]
    fn every_provider_has_its_operator_and_class_in_words() {
        let config = Config::embedded().unwrap();
        let told = Configuration::new(&config, None, Time::ZERO).told();
        assert_eq!(told.source, "(embedded default)");
        for provider in &config.providers {
            let label = told.label(&provider.name).unwrap();
            assert_eq!(label.operator, provider.operator);
            assert!(label.class.starts_with("none/"), "{label:?}");
        }
        assert_eq!(told.label("nobody"), None);
    }

    #[test]
    fn what_is_wrong_with_it_is_told_until_a_reload_is_applied() {
        let config = Config::embedded().unwrap();
        let notes = Configuration::new(&config, None, Time::ZERO);
        let at = |ms| Time::at_ms(ms);
        let said = |ms| notes.told().troubles(at(ms));
        assert_eq!(said(0), [""; 0]);
        notes.note_rejected(mistakes("a.toml:2: x: wrong", 2), at(1_000));
        assert_eq!(
            said(4_000),
            ["the reload 3 s ago changed nothing: a.toml:2: x: wrong (and 2 more)"]
        );
        notes.note_applied(&config, vec!["listen.dns", "cache.size"], at(5_000));
        assert_eq!(said(6_000), ["listen.dns, cache.size wait for a restart"]);
        notes.note_applied(&config, Vec::new(), at(6_000));
        assert_eq!(said(7_000), [""; 0]);
        assert_eq!((notes.told().reloads.applied, notes.told().reloads.rejected), (2, 1));

        let notes = Configuration::new(&config, Some(mistakes("a.toml:1: x", 0)), Time::ZERO);
        notes.note_rejected(mistakes("a.toml:9: y", 0), at(1_000));
        assert_eq!(
            notes.told().troubles(at(2_000)),
            ["runs on the copy of the last good configuration: a.toml:9: y"]
        );
        notes.note_applied(&config, Vec::new(), at(3_000));
        assert_eq!(notes.told().troubles(at(4_000)), [""; 0]);
    }
}
