"""The commands of cohorts: run, status and report, with the options that one scan has, too."""
