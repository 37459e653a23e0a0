//! One endpoint is looked at.
