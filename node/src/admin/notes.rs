//! What the admin interface has to say about the start: bound addresses, the configuration's source, the names that
//! the core does not keep, and what went wrong without keeping the node from starting.

use std::net::SocketAddr;

use crate::board::Board;
use crate::config::{Config, Source};

/// What a provider is called where the core has but numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    /// Who runs it.
    pub(super) operator: String,
    /// What it does to answers: `none/validating`.
    pub(super) class: String,
}

/// Notes of a start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    /// Bound for DNS.
    pub(crate) dns: Vec<SocketAddr>,
    /// Bound for the admin interface.
    pub(crate) admin: Option<SocketAddr>,
    /// Where the configuration came from.
    pub(super) config: String,
    /// By `ProviderId`.
    labels: Vec<Label>,
    warnings: Vec<String>,
    /// What parts say about themselves while they run.
    board: Board,
}

impl Notes {
    /// Notes of a start with this configuration, with nothing bound yet.
    #[must_use]
    pub(crate) fn new(config: &Config, source: &Source, board: Board) -> Self {
        let labels = config.providers.iter().map(|provider| {
            let validation = if provider.validates {
                "validating"
            } else {
                "not-validating"
            };
            Label {
                operator: provider.operator.clone(),
                class: format!("{}/{validation}", provider.filter),
            }
        });
        Self {
            config: match source {
                Source::Embedded => "(embedded default)".to_owned(),
                Source::File(path) => path.display().to_string(),
            },
            labels: labels.collect(),
            board,
            ..Self::default()
        }
    }

    /// Something went wrong that a start survives.
    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// What went wrong, in order.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// What is wrong at this moment, by the parts concerned: "store: memory only because …".
    pub(super) fn said(&self) -> Vec<String> {
        self.board.lines()
    }

    /// The names of the provider at this position of the configuration.
    #[must_use]
    pub(super) fn label(&self, provider: usize) -> Option<&Label> {
        self.labels.get(provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_operator_and_class_in_words() {
        let config = Config::embedded().unwrap();
        let notes = Notes::new(&config, &config.source, Board::default());
        assert_eq!(notes.config, "(embedded default)");
        for (index, provider) in config.providers.iter().enumerate() {
            let label = notes.label(index).unwrap();
            assert_eq!(label.operator, provider.operator);
            assert!(label.class.starts_with("none/"), "{label:?}");
        }
        assert_eq!(notes.label(config.providers.len()), None);
    }
}
