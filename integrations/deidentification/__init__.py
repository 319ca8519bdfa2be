"""De-identifying whole folders: resume, and a report that names no one."""
