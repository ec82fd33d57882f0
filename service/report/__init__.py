"""Reports for people: pictures and pages, made of nothing but a report's JSON."""
