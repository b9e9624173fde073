-- A grant is lent under once to its node and once to each worker that the node assigned.

CREATE TABLE loans_by_borrower (
    grant_id TEXT NOT NULL,
    -- SPIFFE id of the worker; empty for the node of the grant
    borrower TEXT NOT NULL,
    -- SHA-256 of what was asked for, ephemeral recipient included
    request BLOB NOT NULL,
    lent_us INTEGER NOT NULL,
    -- when the grant is over and the loan may be forgotten
    forget_us INTEGER NOT NULL,
    PRIMARY KEY (grant_id, borrower)
) STRICT;

INSERT INTO loans_by_borrower SELECT grant_id, '', request, lent_us, forget_us FROM loans;
DROP TABLE loans;
ALTER TABLE loans_by_borrower RENAME TO loans;
CREATE INDEX loans_by_end ON loans (forget_us);
