"""The simulated peg insertion: its scene, the physics and sensors of it, and the policy that moves the arm."""
