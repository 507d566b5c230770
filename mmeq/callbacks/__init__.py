"""What a run does beside training: schedule, record, print, draw and guard."""
