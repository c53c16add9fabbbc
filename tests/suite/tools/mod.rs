//! Tools, as far as they show from outside without a model.

mod supervisor;
