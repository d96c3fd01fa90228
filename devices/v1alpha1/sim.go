package v1alpha1

// Sim is a simulated device inside the agent: a Device can be tried with it
// before there is hardware.
type Sim struct {
	// Interval is how often values are made, 1s by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('1ms') && self <= duration('24h')",message="interval must be from 1ms to 24h"
	Interval *Duration `json:"interval,omitempty"`
	// Seed is that of what is random: the same seed gives the same values.
	//
	// +optional
	Seed int64 `json:"seed,omitempty"`
}

// Waveform is how a simulated value moves.
//
// +kubebuilder:validation:Enum=Constant;Counter;Sine;Square;Triangle;Sawtooth;Random
type Waveform string

// The waveforms.
const (
	// WaveConstant keeps what was written last.
	WaveConstant Waveform = "Constant"
	// WaveCounter counts the values made, from 0, over restarts of the agent.
	WaveCounter  Waveform = "Counter"
	WaveSine     Waveform = "Sine"
	WaveSquare   Waveform = "Square"
	WaveTriangle Waveform = "Triangle"
	WaveSawtooth Waveform = "Sawtooth"
	WaveRandom   Waveform = "Random"
)

// SimProperty is how a simulated value moves.
type SimProperty struct {
	// Waveform of the value.
	//
	// +optional
	// +kubebuilder:default=Constant
	Waveform Waveform `json:"waveform,omitempty"`
	// Amplitude is how far the value goes from offset, up and down; nil is 1.
	//
	// +optional
	Amplitude *float64 `json:"amplitude,omitempty"`
	// Offset is the middle; nil is 0.
	//
	// +optional
	Offset *float64 `json:"offset,omitempty"`
	// Period of the waveform, 1m by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self > duration('0s')",message="period must be above 0s"
	Period *Duration `json:"period,omitempty"`
}
