"""The database file: opened, migrated, backed up, checked, and shared by several programs."""
