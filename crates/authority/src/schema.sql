-- What the authority keeps. Times are microseconds since the Unix epoch.

CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    -- age-encrypted to the council root
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE purposes (name TEXT PRIMARY KEY) STRICT;

CREATE TABLE invites (
    -- SHA-256 of the one-time secret
    code BLOB PRIMARY KEY,
    peer TEXT NOT NULL,
    expires_us INTEGER NOT NULL,
    used_us INTEGER
) STRICT;

-- This council's roles, and those of other councils that are shut out here.
CREATE TABLE peers (
    id TEXT PRIMARY KEY,
    signing_key BLOB,
    address TEXT,
    -- JSON list: those of its enrolment, which a renewal cannot add to
    host_names TEXT NOT NULL DEFAULT '[]',
    enrolled_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;

CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    -- argon2id, PHC string; NULL for those who come with a certificate only
    password TEXT,
    roles TEXT NOT NULL,
    purposes TEXT NOT NULL,
    revoked_us INTEGER
) STRICT;

CREATE TABLE trust (
    council TEXT PRIMARY KEY,
    bundle BLOB NOT NULL
) STRICT;

CREATE TABLE datasets (
    department TEXT NOT NULL,
    dataset TEXT NOT NULL,
    -- the one node that holds it
    node TEXT NOT NULL,
    recipient TEXT NOT NULL,
    -- the age identity, age-encrypted to the council root
    sealed BLOB NOT NULL,
    PRIMARY KEY (department, dataset)
) STRICT;

CREATE TABLE manifests (
    department TEXT NOT NULL,
    dataset TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    recorded_us INTEGER NOT NULL,
    PRIMARY KEY (department, dataset, version)
) STRICT;

CREATE TABLE products (
    department TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- the envelope that the node signed
    envelope BLOB NOT NULL,
    node TEXT NOT NULL,
    registered_us INTEGER NOT NULL,
    PRIMARY KEY (department, name, version)
) STRICT;

CREATE TABLE loans (
    grant_id TEXT PRIMARY KEY,
    -- SHA-256 of what was asked for, ephemeral recipient included
    request BLOB NOT NULL,
    lent_us INTEGER NOT NULL,
    -- when the grant is over and the loan may be forgotten
    forget_us INTEGER NOT NULL
) STRICT;

CREATE INDEX loans_by_end ON loans (forget_us);

CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    previous BLOB NOT NULL,
    digest BLOB NOT NULL,
    record BLOB NOT NULL
) STRICT;

CREATE TRIGGER log_is_not_rewritten BEFORE UPDATE ON log
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER log_is_not_cut BEFORE DELETE ON log
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

-- Counts changes of the register, so that what is kept of it in memory is known to be current.
CREATE TABLE revision (n INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (0);
CREATE TRIGGER peers_in AFTER INSERT ON peers BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER peers_up AFTER UPDATE ON peers BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER products_in AFTER INSERT ON products BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER products_up AFTER UPDATE ON products BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER purposes_in AFTER INSERT ON purposes BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER purposes_out AFTER DELETE ON purposes BEGIN UPDATE revision SET n = n + 1; END;
