-- The ledger of privacy budgets. Amounts are billionths of rho; times are microseconds since the
-- Unix epoch. Nothing in it is ever changed or taken back.

-- One budget over one period.
CREATE TABLE ledgers (
    id INTEGER PRIMARY KEY,
    department TEXT NOT NULL,
    -- those that the privacy unit comes from, in order, joined by `+`
    datasets TEXT NOT NULL,
    purpose TEXT NOT NULL,
    start_us INTEGER NOT NULL,
    end_us INTEGER NOT NULL,
    UNIQUE (department, datasets, purpose, start_us, end_us),
    CHECK (start_us < end_us)
) STRICT;

CREATE TABLE debits (
    ledger INTEGER NOT NULL REFERENCES ledgers (id),
    -- from 1, without a gap
    number INTEGER NOT NULL,
    -- digest of the canonical question and the data that it was asked of
    question BLOB NOT NULL,
    charge INTEGER NOT NULL CHECK (charge > 0),
    -- this charge and all before it in this ledger
    total INTEGER NOT NULL,
    -- council.department.product
    product TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    debited_us INTEGER NOT NULL,
    PRIMARY KEY (ledger, number),
    UNIQUE (ledger, question),
    UNIQUE (grant_id, product)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledgers_are_not_rewritten BEFORE UPDATE ON ledgers
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledgers_are_not_cut BEFORE DELETE ON ledgers
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER debits_are_not_rewritten BEFORE UPDATE ON debits
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER debits_are_not_cut BEFORE DELETE ON debits
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER debits_add_up BEFORE INSERT ON debits
WHEN NEW.number IS NOT 1 + coalesce((SELECT max(number) FROM debits WHERE ledger = NEW.ledger), 0)
  OR NEW.total IS NOT NEW.charge + coalesce(
    (SELECT total FROM debits WHERE ledger = NEW.ledger ORDER BY number DESC LIMIT 1), 0)
BEGIN SELECT RAISE(ABORT, 'the debit does not follow the one before'); END;
