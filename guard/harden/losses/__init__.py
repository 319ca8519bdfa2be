"""What training minimises, climbs and is judged by: one file per task, `table.losses_of` finds it."""
