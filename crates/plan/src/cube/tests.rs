mod axes;
mod grammar;
mod mutants;
mod town;
