"""Networks of other libraries, as teachers and students."""
