"""
The ledger: the system of record, on SQLite or PostgreSQL.

Queries take a connection, so that several form one transaction; those that change the bid path's
view raise the catalog's revision (`segments.ledger.revision`).
"""
