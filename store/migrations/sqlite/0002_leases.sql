-- Work that one process of several does at a time: who does it, until when that stands without being renewed (wall clock),
-- and how often it changed hands. The token rises with every new holder, so that what was begun under an earlier one is told.
CREATE TABLE leases (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, token BIGINT NOT NULL, expires_wall BIGINT NOT NULL
);
