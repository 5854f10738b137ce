"""What makes one patient's tissue unlike another's: muscles, vessels, bowel, lungs, findings, breathing."""
