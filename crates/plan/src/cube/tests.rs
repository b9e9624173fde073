mod axes;
mod grammar;
mod mutants;
pub(crate) mod town;
