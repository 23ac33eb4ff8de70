"""The sample back end: users of a MySQL database as JSON."""
