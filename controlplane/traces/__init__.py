"""Recorded and made-up demand: `library` finds and reads it, `catalog` knows what is public, `reading` cleans it, `waves` adds launches."""
