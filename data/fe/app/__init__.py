"""The sample front end: a page that shows who served it and lets its reader add a user."""
