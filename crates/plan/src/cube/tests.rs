mod grammar;
mod mutants;
mod town;
